/** A job as the page sees it: how events change it, and what it says in words. */

import { toJsonString } from "@bufbuild/protobuf";
import { ValueSchema, type Timestamp } from "@bufbuild/protobuf/wkt";
import { CountPrimes_Kind, CountPrimes_Method } from "./gen/tallymesh/v1/work_pb";
import { ErrorReason } from "./gen/tallymesh/v1/errors_pb";
import { Job_State, type Job, type JobEvent } from "./gen/tallymesh/v1/job_pb";
import { compact, grouped } from "./numbers";
import { instant, length, span } from "./time";

/** Gives the job as it is after an event. A delta without a snapshot before it gives nothing. */
export function afterEvent(job: Job | undefined, { version, event }: JobEvent): Job | undefined {
  switch (event.case) {
    case "snapshot":
    case "ended":
      return event.value;
    case "delta": {
      if (!job) return undefined;
      // A delta has all that changes while a job runs, and replaces it also where it is empty.
      const { state, stateReason, progress, handledBy, startTime, checkedBy } = event.value;
      const { refusedDuplicates, failedAttempts, lostLeases } = event.value;
      return {
        ...job,
        ...{ version, state, stateReason, progress, handledBy, startTime, checkedBy },
        ...{ refusedDuplicates, failedAttempts, lostLeases },
      };
    }
    default:
      return job;
  }
}

/** Tells whether a job has come to its end. */
export function hasEnded(job: Job): boolean {
  return (
    job.state === Job_State.SUCCEEDED ||
    job.state === Job_State.FAILED ||
    job.state === Job_State.CANCELLED
  );
}

/** Tells whether a job's total is still on its way into an abacus. */
export function awaitsPosting({ state, abacus, abacusPosting: posting }: Job): boolean {
  return state === Job_State.SUCCEEDED && abacus !== "" && !posting?.postTime && !posting?.error;
}

/** Name of a job's state as the API writes it, without the prefix. */
export function stateName(job: Job): string {
  return Job_State[job.state];
}

/** Name of the reason for which a job failed. */
export function failureReason(job: Job): string {
  return job.error ? ErrorReason[job.error.reason] : "";
}

/** Says what a job computes; `short` writes 10¹⁰ for 10,000,000,000. */
export function workWords(job: Job, short = false): string {
  const kernel = job.work?.kernel;
  const write = short ? compact : grouped;
  switch (kernel?.case) {
    case "countPrimes": {
      const { kind, start, stop } = kernel.value;
      const what = capitalized(kindName(kind));
      return short
        ? `${what} ${write(start)} – ${write(stop)}`
        : `${what} from ${write(start)} to ${write(stop)}`;
    }
    case "nthPrime":
      return `Prime number ${write(kernel.value.n)}`;
    case "add":
      return `Sum of ${plural(kernel.value.numbers.length, "number")}`;
    case "simulate": {
      const each = kernel.value.duration ? length(kernel.value.duration) : 0;
      return `Simulation, ${span(each)} a chunk`;
    }
    case "custom":
      return kernel.value.kernel;
    default:
      return job.kernel || "Job";
  }
}

/** What a job's total counts, as in "455,052,511 primes". */
export function totalWords(job: Job): string {
  const kernel = job.work?.kernel;
  switch (kernel?.case) {
    case "countPrimes":
      return kindName(kernel.value.kind);
    case "nthPrime":
      return "prime";
    case "add":
      return "sum";
    case "custom":
      return "in total";
    default:
      return "chunks counted";
  }
}

/** A job's total, so far or final, as a plain decimal; empty while there is none. */
export function total(job: Job): string {
  const kernel = job.result?.kernel;
  switch (kernel?.case) {
    case "countPrimes":
      return kernel.value.count.toString();
    case "nthPrime":
      return kernel.value.prime.toString();
    case "add":
      return kernel.value.sum;
    case "simulate":
      return kernel.value.chunks.toString();
    case "custom":
      return kernel.value.output.case === "number" ? kernel.value.output.value.toString() : "";
    default:
      return job.progress?.runningTotal ?? "";
  }
}

/** Says in a sentence what came out of a job that succeeded. */
export function resultWords(job: Job): string {
  const kernel = job.work?.kernel;
  const value = grouped(total(job));
  switch (kernel?.case) {
    case "countPrimes": {
      const { kind, start, stop } = kernel.value;
      const kinds = kindName(kind);
      const found = total(job) === "1" ? `is 1 ${kinds.slice(0, -1)}` : `are ${value} ${kinds}`;
      return `There ${found} from ${grouped(start)} to ${grouped(stop)}.`;
    }
    case "nthPrime":
      return `Prime number ${grouped(kernel.value.n)} is ${value}.`;
    case "add":
      return `The sum is ${value}.`;
    case "custom":
      return `${kernel.value.kernel} gave ${customWords(job)}.`;
    default:
      return `${value} chunks were counted.`;
  }
}

/** Says how a job counts primes, and why so; empty for other jobs. */
export function methodWords(job: Job): string {
  const kernel = job.work?.kernel;
  if (kernel?.case !== "countPrimes" || !kernel.value.method) return "";
  const method = CountPrimes_Method[kernel.value.method].toLowerCase();
  return `${method} (${kernel.value.methodReason || "asked for"})`;
}

/** Names what is counted, in the plural: primes, twins and so on. */
export function kindName(kind: CountPrimes_Kind): string {
  return CountPrimes_Kind[kind || CountPrimes_Kind.PRIMES].toLowerCase();
}

/** What a kernel of one's own made: a number, JSON, or how long its message is. */
function customWords(job: Job): string {
  const kernel = job.result?.kernel;
  const output = kernel?.case === "custom" ? kernel.value.output : undefined;
  switch (output?.case) {
    case "number":
      return grouped(output.value);
    case "json":
      return toJsonString(ValueSchema, output.value);
    case "data":
      return plural(output.value.length, "byte");
    default:
      return "nothing";
  }
}

/** Milliseconds from a job's first lease to its end, or to `now` while it runs. */
export function runningMs(job: Job, now: number): number | undefined {
  return between(job.startTime, job.endTime, now);
}

/** Milliseconds that a job has waited, or had to wait, for its first lease. */
export function waitingMs(job: Job, now: number): number | undefined {
  return between(job.createTime, job.startTime ?? job.endTime, now);
}

function capitalized(word: string): string {
  return word.charAt(0).toUpperCase() + word.slice(1);
}

/** Writes a count with its noun. */
export function plural(count: number | bigint, noun: string): string {
  return `${grouped(count)} ${noun}${BigInt(count) === 1n ? "" : "s"}`;
}

function between(
  from: Timestamp | undefined,
  to: Timestamp | undefined,
  now: number,
): number | undefined {
  return from && Math.max(0, (to ? instant(to) : now) - instant(from));
}
