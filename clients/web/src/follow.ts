/** Streams that stay open across cuts, restarts and sleep. */

import { Code, ConnectError } from "@connectrpc/connect";
import { shown } from "./hooks";
import { backoff, pause } from "./mesh";
import { problemOf, type Problem } from "./problem";

/** How a followed stream stands. */
export type Link = "connecting" | "live" | "reconnecting" | "ended";

/** The mesh says something at least every 10 s; silence of this length means a dead connection. */
const SILENCE_MS = 25_000;

/** After these, asking again would get the same answer. */
const FINAL = new Set([
  Code.InvalidArgument,
  Code.NotFound,
  Code.PermissionDenied,
  Code.Unauthenticated,
  Code.Unimplemented,
]);

interface Follower<T> {
  /** Opens the stream. */
  open(signal: AbortSignal): AsyncIterable<T>;
  /** Takes a message; answers true if it is the last. */
  take(message: T): boolean;
  /** Is told how the stream stands. */
  link(link: Link): void;
  /** Is told that the stream was refused for good. */
  refused(problem: Problem): void;
}

/**
 * Keeps a stream open until its last message, until it is refused for good, or until the function
 * that this returns is called.
 *
 * While the page is hidden the stream is closed: a browser allows six connections to a host over
 * HTTP/1.1, and forgotten tabs would use them up.
 */
export function follow<T>(follower: Follower<T>): () => void {
  const stop = new AbortController();
  void run(follower, stop.signal);
  return () => stop.abort();
}

async function run<T>(follower: Follower<T>, stopped: AbortSignal): Promise<void> {
  follower.link("connecting");
  for (let failures = 0; ;) {
    await shown(stopped);
    if (stopped.aborted) return;
    const attempt = new AbortController();
    const close = (): void => attempt.abort();
    const closeIfHidden = (): void => {
      if (document.hidden) close();
    };
    let silence = setTimeout(close, SILENCE_MS);
    stopped.addEventListener("abort", close);
    document.addEventListener("visibilitychange", closeIfHidden);
    try {
      for await (const message of follower.open(attempt.signal)) {
        if (stopped.aborted) return;
        clearTimeout(silence);
        silence = setTimeout(close, SILENCE_MS);
        failures = 0;
        follower.link("live");
        if (follower.take(message)) {
          follower.link("ended");
          return;
        }
      }
    } catch (thrown) {
      if (stopped.aborted) return;
      if (FINAL.has(ConnectError.from(thrown).code)) {
        follower.link("ended");
        follower.refused(problemOf(thrown));
        return;
      }
    } finally {
      clearTimeout(silence);
      stopped.removeEventListener("abort", close);
      document.removeEventListener("visibilitychange", closeIfHidden);
      close();
    }
    if (stopped.aborted) return;
    follower.link("reconnecting");
    failures += 1;
    if (!document.hidden) await pause(backoff(failures), stopped);
  }
}
