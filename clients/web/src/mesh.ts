/** The services of the mesh that serves this page. */

import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { AbacusService } from "./gen/tallymesh/v1/abacus_service_pb";
import { JobService } from "./gen/tallymesh/v1/job_service_pb";
import { MeshService } from "./gen/tallymesh/v1/mesh_service_pb";
import { isCut } from "./problem";

const ATTEMPTS = 4;
const CALL_TIMEOUT_MS = 10_000;

/** Resolves after a while, or at once when the signal is aborted. */
export function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", finish);
      resolve();
    };
    const timer = setTimeout(finish, milliseconds);
    signal.addEventListener("abort", finish);
    if (signal.aborted) finish();
  });
}

/** How long to wait before the next attempt: 0.2 s, doubled each time up to 5 s, give or take a
 * quarter. */
export function backoff(failures: number): number {
  return Math.min(200 * 2 ** (failures - 1), 5_000) * (0.75 + Math.random() / 2);
}

/** Repeats what did not get through. Every unary call of the page is safe to repeat: those that
 * change something carry a request id. Streams are reopened by `follow`. */
const repeatUnavailable: Interceptor = (next) => async (request) => {
  for (let failures = 1; ; failures++) {
    try {
      return await next(request);
    } catch (thrown) {
      const error = ConnectError.from(thrown);
      const passing = error.code === Code.Unavailable || isCut(error);
      if (request.stream || failures === ATTEMPTS || !passing) throw error;
      await pause(backoff(failures), request.signal);
    }
  }
};

const transport = createGrpcWebTransport({
  baseUrl: window.location.origin,
  useBinaryFormat: true,
  interceptors: [repeatUnavailable],
});

/** For a unary call: how long it may take, repeats included. */
export const CALL = { timeoutMs: CALL_TIMEOUT_MS } as const;

export const jobs = createClient(JobService, transport);
export const abaci = createClient(AbacusService, transport);
export const mesh = createClient(MeshService, transport);

/** Gives a mutation the id under which it counts once: the same id for as long as the same thing is
 * asked for and it is not known to have succeeded. */
export class RequestIds {
  #asked = "";
  #id = "";

  /** The id for what is asked, given in a form that is equal for equal requests. */
  for(asked: string): string {
    if (asked !== this.#asked) {
      this.#asked = asked;
      this.#id = randomId();
    }
    return this.#id;
  }

  /** Done: asking for the same again is a new request. */
  settle(): void {
    this.#asked = "";
  }
}

/** A UUID of version 7: as it tells its time, the mesh never takes one of long ago for a new one. */
function randomId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const view = new DataView(bytes.buffer);
  const now = Date.now();
  view.setUint32(0, Math.floor(now / 0x10000));
  view.setUint16(4, now % 0x10000);
  view.setUint8(6, 0x70 | (view.getUint8(6) & 0x0f));
  view.setUint8(8, 0x80 | (view.getUint8(8) & 0x3f));
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
