import { type KeyboardEvent, useEffect, useRef, useState } from "react";
import type { ChatMessage } from "@/api/chat";
import { Button } from "@/components/Button";
import { Problem } from "@/components/Problem";
import { FIRST_SAMPLING, SamplingFields, useGenerate } from "./sampling";

/** A conversation with a chat model. */
export function Chat({ base, model }: { base: string; model: string }) {
  const [messages, setMessages] = useState<ChatMessage[]>([]);
  const [draft, setDraft] = useState("");
  const [sampling, setSampling] = useState(FIRST_SAMPLING);
  const { start, stop, busy, problem, note } = useGenerate();
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => {
    // Newer browsers give a promise back, which is no clean-up function.
    end.current?.scrollIntoView({ block: "nearest" });
  }, [messages]);

  const send = async () => {
    const content = draft.trim();
    if (busy || !content) return;
    const asked: ChatMessage[] = [...messages, { role: "user", content }];
    setDraft("");
    setMessages([...asked, { role: "assistant", content: "" }]);
    let answer = "";
    const onText = (piece: string) => {
      answer += piece;
      setMessages([...asked, { role: "assistant", content: answer }]);
    };
    const worked = await start({ base, model, prompt: asked, sampling, onText });
    // A question that got no answer goes back into the box, so that nothing typed is lost.
    if (!worked && !answer) {
      setMessages(messages);
      setDraft(content);
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.key !== "Enter" || event.shiftKey || event.nativeEvent.isComposing) return;
    event.preventDefault();
    void send();
  };
  return (
    <div className="chat">
      <div className="chat-log" role="log" aria-label="Conversation" aria-busy={busy} tabIndex={0}>
        {messages.length ? null : <p className="quiet">Ask {model} something.</p>}
        {messages.map((message, i) => (
          <div key={i} className={`bubble bubble-${message.role}`}>
            <p className="bubble-who">{message.role === "user" ? "You" : model}</p>
            <p className="bubble-text">{message.content || (busy ? "…" : "(no answer)")}</p>
          </div>
        ))}
        <div ref={end} />
      </div>
      <Problem error={problem} />
      <p className="quiet chat-note" role="status">
        {note}
      </p>
      <div className="chat-entry">
        <textarea
          aria-label="Message"
          rows={2}
          value={draft}
          placeholder="Message (Enter sends, Shift+Enter is a new line)"
          onChange={(e) => setDraft(e.target.value)}
          onKeyDown={onKeyDown}
        />
        {busy ? (
          <Button onClick={stop}>Stop</Button>
        ) : (
          <Button look="primary" disabled={!draft.trim()} onClick={() => void send()}>
            Send
          </Button>
        )}
      </div>
      <div className="row">
        <SamplingFields value={sampling} onChange={setSampling} />
        <Button size="small" disabled={busy || !messages.length} onClick={() => setMessages([])}>
          Clear
        </Button>
      </div>
    </div>
  );
}
