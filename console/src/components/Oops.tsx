import { Component, type ReactNode } from "react";
import { Button } from "./Button";

/** Catches what a page throws while drawing, so that one broken page is not a blank console. */
export class Oops extends Component<{ children: ReactNode }, { error: Error | null }> {
  override state = { error: null as Error | null };

  static getDerivedStateFromError(error: Error) {
    return { error };
  }

  override render() {
    if (!this.state.error) return this.props.children;
    return (
      <main className="signin" id="main">
        <div className="problem" role="alert">
          <div>
            <h1>This page could not be drawn</h1>
            <p>{this.state.error.message}</p>
            <p className="problem-hint">
              The server may have been updated; loading the page again usually helps.
            </p>
            <Button look="primary" onClick={() => location.reload()}>
              Load again
            </Button>
          </div>
        </div>
      </main>
    );
  }
}
