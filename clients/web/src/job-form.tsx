import { useRef, useState } from "preact/hooks";
import type { Job } from "./gen/tallymesh/v1/job_pb";
import { CountPrimes_Kind } from "./gen/tallymesh/v1/work_pb";
import { abacusName } from "./abacus";
import { kindName } from "./job";
import { CALL, jobs, RequestIds } from "./mesh";
import { CHUNKS_MAX, compact, grouped, parseInteger, readInteger, UINT64_MAX } from "./numbers";
import { Problem, problemOf } from "./problem";
import { ProblemNote } from "./problem-note";

type FieldName = "kind" | "from" | "to" | "chunks" | "abacus";

const LABELS: Readonly<Record<FieldName, string>> = {
  kind: "Count",
  from: "From",
  to: "To",
  chunks: "Chunks",
  abacus: "Abacus",
};

/** The form's field for the last part of a field's path in the request. */
const FIELD_OF_PATH: Readonly<Record<string, FieldName>> = {
  kind: "kind",
  from: "from",
  start: "from",
  to: "to",
  stop: "to",
  chunks: "chunks",
  chunk_count: "chunks",
  abacus: "abacus",
};

const KINDS = [
  CountPrimes_Kind.PRIMES,
  CountPrimes_Kind.TWINS,
  CountPrimes_Kind.TRIPLETS,
  CountPrimes_Kind.QUADRUPLETS,
  CountPrimes_Kind.QUINTUPLETS,
  CountPrimes_Kind.SEXTUPLETS,
] as const;

const EXAMPLES = [10n ** 9n, 10n ** 10n, 10n ** 11n] as const;

/** The form that submits a count of primes or of their tuplets. */
export function JobForm({ onCreated }: { onCreated: (job: Job) => void }) {
  const [values, setValues] = useState({
    kind: kindName(CountPrimes_Kind.PRIMES),
    from: "0",
    to: "1e10",
    chunks: "",
    abacus: "",
  });
  const [problem, setProblem] = useState<Problem>();
  const [busy, setBusy] = useState(false);
  const requestIds = useRef(new RequestIds()).current;
  const faulty = problem && FIELD_OF_PATH[problem.field.split(".").pop() ?? ""];

  const set = (name: FieldName, value: string): void => {
    setValues((last) => ({ ...last, [name]: value }));
    if (!faulty || faulty === name) setProblem(undefined);
  };

  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    if (busy) return;
    setProblem(undefined);
    setBusy(true);
    try {
      const job = readJob(values);
      const requestId = requestIds.for(JSON.stringify(values));
      onCreated(await jobs.createJob({ job, requestId }, CALL));
      requestIds.settle();
    } catch (thrown) {
      setProblem(problemOf(thrown));
    } finally {
      setBusy(false);
    }
  };

  const field = (name: FieldName, testId: string, placeholder = "") => (
    <div class="field">
      <label for={name}>{LABELS[name]}</label>
      <input
        id={name}
        data-testid={testId}
        value={values[name]}
        placeholder={placeholder}
        onInput={(event) => set(name, event.currentTarget.value)}
        aria-invalid={faulty === name}
        aria-describedby={faulty === name ? "job-form-problem" : `${name}-echo`}
        autocomplete="off"
        autocapitalize="off"
        spellcheck={false}
      />
      <span class="echo" id={`${name}-echo`}>
        {name === "abacus" ? values.abacus && "gets the total, once" : echo(values[name])}
      </span>
    </div>
  );

  return (
    <form class="card job-form" onSubmit={submit} aria-labelledby="job-form-title" noValidate>
      <h2 id="job-form-title">Count primes</h2>
      <div class="fields">
        <div class="field">
          <label for="kind">{LABELS.kind}</label>
          <select
            id="kind"
            data-testid="kind"
            value={values.kind}
            onChange={(event) => set("kind", event.currentTarget.value)}
          >
            {KINDS.map(kindName).map((name) => (
              <option key={name}>{name}</option>
            ))}
          </select>
        </div>
        {field("from", "from", "0")}
        {field("to", "to", "10^10")}
        {field("chunks", "chunks", "auto")}
        {field("abacus", "abacus-for-job", "none")}
      </div>
      {problem && (
        <ProblemNote
          problem={problem}
          label={faulty && LABELS[faulty]}
          id="job-form-problem"
          testId="error"
        />
      )}
      <div class="row">
        <button class="primary" type="submit" data-testid="submit" disabled={busy}>
          {busy ? "Sending…" : "Count"}
        </button>
        <span class="examples">
          <span>Up to</span>
          {EXAMPLES.map((example) => (
            <button
              key={example}
              type="button"
              class="chip"
              aria-label={`Up to ${grouped(example)}`}
              onClick={() => set("to", grouped(example))}
            >
              {compact(example)}
            </button>
          ))}
        </span>
      </div>
    </form>
  );
}

function readJob({ kind, from, to, chunks, abacus }: Readonly<Record<FieldName, string>>) {
  const start = from.trim() ? readInteger("from", from, 0n, UINT64_MAX) : 0n;
  const stop = readInteger("to", to, 0n, UINT64_MAX);
  if (stop < start) {
    throw new Problem("INVALID_FIELD", {
      field: "to",
      value: to.trim(),
      bound: `${start} or more, as “From” is`,
    });
  }
  return {
    work: { kernel: { case: "countPrimes" as const, value: { kind: readKind(kind), start, stop } } },
    chunkCount: chunks.trim() ? readInteger("chunks", chunks, 1n, CHUNKS_MAX) : undefined,
    abacus: abacus.trim() ? `abaci/${abacusName("abacus", abacus)}` : "",
  };
}

function readKind(name: string): CountPrimes_Kind {
  return KINDS.find((kind) => kindName(kind) === name) ?? CountPrimes_Kind.PRIMES;
}

/** Writes out a number that was given in a short form. */
function echo(text: string): string {
  const number = parseInteger(text);
  const plain = typeof number === "bigint" && number <= UINT64_MAX ? grouped(number) : "";
  return plain === text.trim() ? "" : plain;
}
