/** Spans and points of time in words. */

import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

/** A point of time in milliseconds since 1970, with their fraction. */
export function instant({ seconds, nanos }: Timestamp): number {
  return Number(seconds) * 1_000 + nanos / 1e6;
}

/** A length of time in milliseconds, with their fraction. */
export function length({ seconds, nanos }: Duration): number {
  return Number(seconds) * 1_000 + nanos / 1e6;
}

/** Writes a span: 0.4 ms, 12 ms, 3.4 s, 2 min 5 s, 1 h 3 min. */
export function span(milliseconds: number): string {
  if (milliseconds === 0) return "0 s";
  if (milliseconds < 9.95) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 999.5) return `${milliseconds.toFixed(0)} ms`;
  if (milliseconds < 59_950) return `${(milliseconds / 1_000).toFixed(1)} s`;
  const seconds = Math.round(milliseconds / 1_000);
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return seconds % 60 ? `${minutes} min ${seconds % 60} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} days`;
}

/** Writes how long ago something was, in its largest unit. */
export function ago(milliseconds: number): string {
  const seconds = Math.floor(milliseconds / 1_000);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3_600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h ago`;
  return `${Math.floor(seconds / 86_400)} days ago`;
}

/** Writes the time of day, with the date unless it is today. */
export function clock(milliseconds: number, now: number): string {
  const then = new Date(milliseconds);
  const time = then.toLocaleTimeString();
  return then.toDateString() === new Date(now).toDateString()
    ? time
    : `${then.toLocaleDateString()} ${time}`;
}
