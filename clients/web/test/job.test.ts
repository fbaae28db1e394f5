import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import {
  Job_State,
  JobEventSchema,
  JobSchema,
  type JobEvent,
} from "../src/gen/tallymesh/v1/job_pb";
import { CountPrimes_Kind, CountPrimes_Method } from "../src/gen/tallymesh/v1/work_pb";
import { afterEvent, hasEnded, methodWords, resultWords, total, workWords } from "../src/job";

const running = create(JobSchema, {
  name: "jobs/abcd",
  work: { kernel: { case: "countPrimes", value: { start: 0n, stop: 10n ** 10n } } },
  state: Job_State.RUNNING,
  initiatedBy: "gateway-1",
  checkedBy: "gateway-1",
  handledBy: { "worker-1": 2n },
  failedAttempts: 3n,
  progress: { chunksTotal: 4n, chunksDone: 2n, runningTotal: "17" },
  version: 5n,
});

function event(version: bigint, of: JobEvent["event"]): JobEvent {
  return create(JobEventSchema, { version, event: of });
}

function delta(version: bigint, change: object): JobEvent {
  return create(JobEventSchema, { version, event: { case: "delta", value: change } });
}

test("a snapshot is the job, and a delta replaces what it has, also where it is empty", () => {
  const job = afterEvent(undefined, event(5n, { case: "snapshot", value: running }));
  assert.equal(job, running);
  const progress = { chunksTotal: 4n, chunksDone: 3n, runningTotal: "9223372036854775809" };
  const state = Job_State.RUNNING;
  const later = afterEvent(job, delta(6n, { state, progress, checkedBy: "gateway-2" }));
  assert(later);
  assert.equal(total(later), "9223372036854775809");
  assert.equal(later.version, 6n);
  assert.equal(later.checkedBy, "gateway-2");
  assert.equal(later.initiatedBy, "gateway-1");
  assert.equal(later.state, Job_State.RUNNING);
  assert.equal(later.failedAttempts, 0n);
  assert.deepEqual(later.handledBy, {});
  assert.equal(running.version, 5n, "the job before is left as it was");
});

test("a delta without a snapshot, and a keepalive, tell nothing", () => {
  assert.equal(afterEvent(undefined, delta(1n, { checkedBy: "gateway-1" })), undefined);
  const keepalive = create(JobEventSchema, {
    version: 5n,
    event: { case: "keepalive", value: {} },
  });
  assert.equal(afterEvent(running, keepalive), running);
});

test("an ended job speaks in exact words", () => {
  const ended = create(JobSchema, {
    ...running,
    state: Job_State.SUCCEEDED,
    result: { kernel: { case: "countPrimes", value: { count: 455052511n } } },
  });
  const job = afterEvent(running, event(9n, { case: "ended", value: ended }));
  assert(job && hasEnded(job));
  assert.equal(resultWords(job), "There are 455,052,511 primes from 0 to 10,000,000,000.");
  assert.equal(workWords(job, true), "Primes 0 – 10¹⁰");
});

test("tuplets, the method and the n-th prime are told", () => {
  const counted = (count: bigint) =>
    create(JobSchema, {
      work: {
        kernel: {
          case: "countPrimes",
          value: {
            stop: 100n,
            kind: CountPrimes_Kind.TWINS,
            method: CountPrimes_Method.SIEVE,
            methodReason: "tuplets are counted by sieve only",
          },
        },
      },
      result: { kernel: { case: "countPrimes", value: { count } } },
    });
  assert.equal(workWords(counted(8n)), "Twins from 0 to 100");
  assert.equal(resultWords(counted(8n)), "There are 8 twins from 0 to 100.");
  assert.equal(resultWords(counted(1n)), "There is 1 twin from 0 to 100.");
  assert.equal(methodWords(counted(8n)), "sieve (tuplets are counted by sieve only)");
  assert.equal(methodWords(running), "");
  const found = create(JobSchema, {
    work: { kernel: { case: "nthPrime", value: { n: 10_000_000_000n } } },
    result: { kernel: { case: "nthPrime", value: { prime: 252_097_800_623n } } },
  });
  assert.equal(workWords(found, true), "Prime number 10¹⁰");
  assert.equal(total(found), "252097800623");
  assert.equal(resultWords(found), "Prime number 10,000,000,000 is 252,097,800,623.");
});

test("a kernel of one's own is named, and its result shown whatever it is", () => {
  const ended = (output: object) =>
    create(JobSchema, {
      kernel: "acme.score",
      state: Job_State.SUCCEEDED,
      work: { kernel: { case: "custom", value: { kernel: "acme.score" } } },
      result: { kernel: { case: "custom", value: { kernel: "acme.score", output } } },
    });
  const number = ended({ case: "number", value: 1234n });
  assert.equal(workWords(number), "acme.score");
  assert.equal(total(number), "1234");
  assert.equal(resultWords(number), "acme.score gave 1,234.");
  const json = ended({ case: "json", value: fromJson(ValueSchema, { a: [1, true] }) });
  assert.equal(total(json), "");
  assert.equal(resultWords(json), 'acme.score gave {"a":[1,true]}.');
  const data = ended({ case: "data", value: new Uint8Array(3) });
  assert.equal(resultWords(data), "acme.score gave 3 bytes.");
});
