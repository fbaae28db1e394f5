/** What the parts of the page share: time, visibility, and work that repeats. */

import { useEffect, useState } from "preact/hooks";
import { pause } from "./mesh";

/** Resolves once the page is visible, or the signal aborted. */
export function shown(stopped: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const check = (): void => {
      if (document.hidden && !stopped.aborted) return;
      document.removeEventListener("visibilitychange", check);
      stopped.removeEventListener("abort", check);
      resolve();
    };
    document.addEventListener("visibilitychange", check);
    stopped.addEventListener("abort", check);
    check();
  });
}

/** Runs a task now and again, a pause after each end of it, while the page is visible; afresh
 * whenever one of `causes` changes, and not at all unless `active`. The task handles its errors. */
export function useRepeated(
  task: (signal: AbortSignal) => Promise<void>,
  pauseMs: number,
  causes: readonly unknown[],
  active = true,
): void {
  useEffect(() => {
    if (!active) return undefined;
    const stop = new AbortController();
    void (async () => {
      for (;;) {
        await shown(stop.signal);
        if (stop.signal.aborted) return;
        await task(stop.signal);
        await pause(pauseMs, stop.signal);
      }
    })();
    return () => stop.abort();
  }, causes);
}

/** The mesh's time in milliseconds, moving on in steps of `stepMs`; `skewMs` is how far its clock
 * is ahead of the browser's. */
export function useNow(stepMs: number, skewMs: number): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), stepMs);
    return () => clearInterval(timer);
  }, [stepMs]);
  return now + skewMs;
}

/** The job that the address names, as `jobs/{job}` after `#/`; empty if it names none. */
export function useWatchedJob(): string {
  const [name, setName] = useState(watchedJob);
  useEffect(() => {
    const read = (): void => setName(watchedJob());
    window.addEventListener("hashchange", read);
    return () => window.removeEventListener("hashchange", read);
  }, []);
  return name;
}

function watchedJob(): string {
  return /^#\/(jobs\/[a-z0-9]+)$/.exec(window.location.hash)?.[1] ?? "";
}
