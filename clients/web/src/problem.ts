/** What went wrong, in words for the person at the page. */

import { Code, ConnectError } from "@connectrpc/connect";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb";
import { ErrorReason } from "./gen/tallymesh/v1/errors_pb";

/** The reasons of the API, and the page's own for a call that no service answered. */
type Reason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED"> | "UNREACHABLE";

/** What the reasons mean to somebody at the page: each of them, as the compiler sees to. */
const MEANINGS: Readonly<Record<Reason, string>> = {
  INVALID_FIELD: "A value is not accepted",
  UNKNOWN_KERNEL: "The mesh cannot compute this",
  NOT_FOUND: "Not found",
  REQUEST_ID_REUSED: "The request was changed while it was repeated",
  JOB_ENDED: "The job is already over",
  BACKLOG_FULL: "The queue is full",
  STORE_FULL: "The store is full",
  NO_FREE_SLOT: "The worker is busy",
  STORE_UNAVAILABLE: "The store cannot be reached",
  SERVICE_UNAVAILABLE: "A part of the mesh cannot be reached",
  ETAG_MISMATCH: "The sum has changed meanwhile",
  REQUEST_ID_FORGOTTEN: "The request is too old to be repeated",
  BATCHES_MISSING: "A part of the stream of numbers is missing",
  NO_WORKER: "No worker computes this",
  SHUTTING_DOWN: "The mesh is shutting down",
  MALFORMED_REQUEST: "The mesh did not understand the request",
  INTERNAL: "The mesh made a mistake",
  CHUNK_FAILED: "A chunk failed too often",
  CHUNK_CRASHED: "The process computing a chunk died too often",
  CHUNK_TIMED_OUT: "A chunk took too long",
  JOB_TIMED_OUT: "The job took too long",
  JOB_NOT_REPLAYABLE: "The job cannot be run again",
  WORKERS_LOST: "The workers computing a chunk were lost too often",
  WORK_REFUSED: "The work was refused as invalid",
  DEADLINE_EXCEEDED: "The mesh took too long to answer",
  UNREACHABLE: "The mesh cannot be reached",
};

/** Says what a reason means; an unknown one is shown as it is. */
export function meaning(reason: string): string {
  return reason in MEANINGS ? MEANINGS[reason as Reason] : reason;
}

/** Makes a sentence of a message as services write them: in lower case, without a full stop. */
export function sentence(message: string): string {
  const text = message.trim();
  if (!text) return "";
  // A name such as jobs/abcd or gateway-1 at the beginning stays as it is.
  const capital = /^[a-z]+\s/.test(text) ? text[0]?.toUpperCase() + text.slice(1) : text;
  return /[.!?]$/.test(capital) ? capital : `${capital}.`;
}

interface ProblemFacts {
  message?: string;
  field?: string;
  value?: string;
  bound?: string;
}

/** An error that the page shows. */
export class Problem extends Error {
  /** Name of the tallymesh.v1.ErrorReason without its prefix, or a gRPC code where there is none. */
  readonly reason: string;
  /** The field at fault: a name of the form's, or a path in the request. Empty if there is none. */
  readonly field: string;
  /** What was given. */
  readonly value: string;
  /** What would have been accepted, as the end of "it must be …". */
  readonly bound: string;

  constructor(reason: string, facts: ProblemFacts = {}) {
    super(facts.message ?? "");
    this.reason = reason;
    this.field = facts.field ?? "";
    this.value = facts.value ?? "";
    this.bound = facts.bound ?? "";
  }
}

/** Makes a Problem of whatever a call threw. */
export function problemOf(error: unknown): Problem {
  if (error instanceof Problem) return error;
  const status = ConnectError.from(error);
  if (isCut(status)) {
    return new Problem("UNREACHABLE", { message: "No answer came; is it running?" });
  }
  const info = status.findDetails(ErrorInfoSchema)[0];
  const violation = status.findDetails(BadRequestSchema)[0]?.fieldViolations[0];
  return new Problem((info?.reason ?? codeName(status.code)).replace(/^ERROR_REASON_/, ""), {
    message: status.rawMessage,
    field: info?.metadata["field"] ?? violation?.field ?? "",
    value: info?.metadata["value"] ?? "",
    bound: info?.metadata["bound"] ?? "",
  });
}

/** Tells whether a call failed on its way, so that no service has said anything. */
export function isCut(error: ConnectError): boolean {
  return error.cause instanceof TypeError;
}

function codeName(code: Code): string {
  return (Code[code] ?? "Unknown").replace(/\B[A-Z]/g, "_$&").toUpperCase();
}
