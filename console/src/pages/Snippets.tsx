import type { Deployment } from "@/api/types";
import { Snippet } from "@/components/Copy";

/** How to call a deployment from a shell and from Python. */
export function Snippets({ deployment, address }: { deployment: Deployment; address: string }) {
  const auth = deployment.spec.public ? "" : ` \\\n  -H "Authorization: Bearer $BLIXT_TOKEN"`;
  const key = deployment.spec.public ? '"none"' : 'os.environ["BLIXT_TOKEN"]';
  const model = deployment.spec.model?.split(":")[0] ?? deployment.name;
  const curl = `curl ${address}/v1/chat/completions${auth} \\
  -H "Content-Type: application/json" \\
  -d '{"model": "${model}", "stream": true,
       "messages": [{"role": "user", "content": "Hello"}]}'`;
  const python = `import os
from openai import OpenAI

client = OpenAI(base_url="${address}/v1", api_key=${key})
stream = client.chat.completions.create(
    model="${model}",
    messages=[{"role": "user", "content": "Hello"}],
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)`;
  return (
    <div className="snippets">
      {deployment.spec.public ? null : (
        <p className="quiet">
          Requests need a token of this teamspace in <code>BLIXT_TOKEN</code>. Make one under Members.
        </p>
      )}
      <Snippet label="curl">{curl}</Snippet>
      <Snippet label="Python (openai)">{python}</Snippet>
    </div>
  );
}
