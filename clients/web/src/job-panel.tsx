import { useEffect, useState } from "preact/hooks";
import { ChunkCells } from "./chunk-cells";
import { follow, type Link } from "./follow";
import { Job_State, type ChunkMap, type Job } from "./gen/tallymesh/v1/job_pb";
import { useNow, useRepeated } from "./hooks";
import {
  afterEvent,
  awaitsPosting,
  failureReason,
  hasEnded,
  plural,
  methodWords,
  resultWords,
  runningMs,
  stateName,
  total,
  totalWords,
  waitingMs,
  workWords,
} from "./job";
import { CALL, jobs } from "./mesh";
import { grouped } from "./numbers";
import { meaning, problemOf, sentence, type Problem } from "./problem";
import { ProblemNote } from "./problem-note";
import { clock, instant, length, span } from "./time";

const STATES: Readonly<Record<Job_State, string>> = {
  [Job_State.UNSPECIFIED]: "Unknown",
  [Job_State.PENDING]: "Pending",
  [Job_State.RUNNING]: "Running",
  [Job_State.SUCCEEDED]: "Succeeded",
  [Job_State.FAILED]: "Failed",
  [Job_State.CANCELLED]: "Cancelled",
};

/** How often to ask whether a total has reached its abacus. */
const POSTING_MS = 500;

interface JobPanelProps {
  /** `jobs/{job}`. */
  name: string;
  /** The job as it was when it was accepted, if this page submitted it. */
  accepted: Job | undefined;
  skewMs: number;
  /** Is called when the job starts and when it ends. */
  onTurn: () => void;
  onShowAbacus: (abacus: string) => void;
}

/** One job, live. */
export function JobPanel({ name, accepted, skewMs, onTurn, onShowAbacus }: JobPanelProps) {
  const [job, setJob] = useState(accepted);
  const [link, setLink] = useState<Link>("connecting");
  const [problem, setProblem] = useState<Problem>();
  const [cancelling, setCancelling] = useState(false);
  const ended = job !== undefined && hasEnded(job);
  const now = useNow(ended ? 60_000 : 200, skewMs);

  useEffect(
    () =>
      follow({
        open: (signal) => jobs.watchJob({ name }, { signal }),
        take: (event) => {
          setJob((last) => afterEvent(last, event));
          return event.event.case === "ended";
        },
        link: setLink,
        refused: setProblem,
      }),
    [name],
  );
  useEffect(onTurn, [job?.state]);

  // The watch ends with the job, whose total reaches the abacus just after.
  const unposted = job !== undefined && awaitsPosting(job);
  useRepeated(
    async (signal) => {
      try {
        setJob(await jobs.getJob({ name }, { ...CALL, signal }));
      } catch {
        // Asked again after the pause.
      }
    },
    POSTING_MS,
    [name, unposted],
    unposted,
  );

  const cancel = async (): Promise<void> => {
    setCancelling(true);
    setProblem(undefined);
    try {
      await jobs.cancelJob({ name }, CALL);
    } catch (thrown) {
      setProblem(problemOf(thrown));
    } finally {
      setCancelling(false);
    }
  };

  const note = problem && <ProblemNote problem={problem} testId="job-problem" />;
  if (!job) {
    return (
      <section class="card job" data-testid="job" aria-label="Job" aria-busy={!problem}>
        <p class="soft">
          <code>{name}</code>
        </p>
        {note ?? <p class="soft">{link === "reconnecting" ? "Reconnecting…" : "Connecting…"}</p>}
      </section>
    );
  }

  const stopped = job.progress?.chunksRunning === 0n ? job.stateReason : "";
  return (
    <section
      class="card job"
      data-testid="job"
      data-name={job.name}
      data-state={stateName(job)}
      aria-labelledby="job-title"
    >
      <header class="job-head">
        <span class="pill" data-testid="state" data-state={stateName(job)}>
          {STATES[job.state]}
        </span>
        <h2 id="job-title">{workWords(job)}</h2>
        {link === "reconnecting" && (
          <span class="link" role="status" data-testid="link">
            Reconnecting…
          </span>
        )}
        <button
          class="quiet danger"
          type="button"
          data-testid="cancel"
          onClick={cancel}
          disabled={ended || cancelling}
          hidden={ended}
        >
          {cancelling ? "Cancelling…" : "Cancel"}
        </button>
      </header>

      <Headline job={job} />
      <Bar job={job} />
      <div>
        <Figures job={job} now={now} />
        {stopped && !ended && <p class="notice">{sentence(stopped)}</p>}
        <Outcome job={job} now={now} />
      </div>
      {note}
      {job.progress?.chunkMap && job.progress.chunkMap.cells.length > 0 && (
        <Chunks job={job} map={job.progress.chunkMap} />
      )}
      <Provenance job={job} />
      <Facts job={job} now={now} onShowAbacus={onShowAbacus} />
    </section>
  );
}

function Headline({ job }: { job: Job }) {
  const value = total(job);
  return (
    <p class="headline">
      <output class={value.length > 24 ? "long" : ""} data-testid="total" aria-live="off">
        {value ? grouped(value) : "–"}
      </output>
      <span>
        {totalWords(job)}
        {job.state !== Job_State.SUCCEEDED && " so far"}
      </span>
    </p>
  );
}

function Bar({ job }: { job: Job }) {
  const share = percentDone(job);
  return (
    <div class="bar-row">
      <div
        class="bar"
        role="progressbar"
        aria-label="Progress"
        aria-valuemin={0}
        aria-valuemax={100}
        aria-valuenow={share}
        data-testid="bar"
        data-state={stateName(job)}
      >
        <span style={{ width: `${share}%` }} />
      </div>
      <span class="percent">{share.toFixed(share === 100 ? 0 : 1)} %</span>
    </div>
  );
}

function Figures({ job, now }: { job: Job; now: number }) {
  const { progress } = job;
  const ended = hasEnded(job);
  const elapsed = runningMs(job, now);
  return (
    <dl class="figures">
      <div>
        <dt>Chunks</dt>
        <dd data-testid="chunks-done">
          {grouped(progress?.chunksDone ?? 0n)} / {grouped(progress?.chunksTotal ?? job.chunkCount ?? 0n)}
        </dd>
      </div>
      {!ended && (
        <div>
          <dt>Running</dt>
          <dd>
            {grouped(progress?.chunksRunning ?? 0n)}
            {progress && progress.workers > 0 && (
              <small> on {plural(progress.workers, "worker")}</small>
            )}
          </dd>
        </div>
      )}
      <div>
        <dt>Rate</dt>
        <dd>
          {rate(progress?.chunksPerSecond ?? 0)}
          <small> /s</small>
        </dd>
      </div>
      {!ended && (
        <div>
          <dt>Left</dt>
          <dd data-testid="eta">{progress?.eta ? span(length(progress.eta)) : "–"}</dd>
        </div>
      )}
      <div>
        <dt>{ended ? "Took" : "Elapsed"}</dt>
        <dd data-testid="elapsed">{elapsed === undefined ? "–" : span(elapsed)}</dd>
      </div>
    </dl>
  );
}

/** What came of the job, in a sentence; said aloud by screen readers when it appears. */
function Outcome({ job, now }: { job: Job; now: number }) {
  const took = runningMs(job, now);
  const workers = Object.keys(job.handledBy).length;
  return (
    <div aria-live="polite">
      {job.state === Job_State.SUCCEEDED && (
        <p class="outcome good" data-testid="result">
          <strong>{resultWords(job)}</strong>{" "}
          {took !== undefined && `Computed in ${span(took)} by ${plural(workers, "worker")}. `}
          Each chunk counted exactly once.
        </p>
      )}
      {job.state === Job_State.FAILED && (
        <p class="outcome bad" data-testid="failure" data-reason={failureReason(job)}>
          <strong>{meaning(failureReason(job)) || "The job failed"}.</strong>{" "}
          {sentence(job.error?.message ?? "")} <code>{failureReason(job)}</code>
        </p>
      )}
      {job.state === Job_State.CANCELLED && (
        <p class="outcome" data-testid="cancelled">
          <strong>Cancelled.</strong> {grouped(job.progress?.chunksDone ?? 0n)} of{" "}
          {plural(job.chunkCount ?? 0n, "chunk")} had been counted.
        </p>
      )}
    </div>
  );
}

function Chunks({ job, map }: { job: Job; map: ChunkMap }) {
  const failed = job.error && job.error.chunk < (job.chunkCount ?? 0n) ? job.error.chunk : undefined;
  return (
    <div class="chunks">
      <ChunkCells map={map} failed={failed} />
      <p class="legend">
        {job.state !== Job_State.SUCCEEDED && (
          <>
            <span>
              <i data-state="done" /> done
            </span>
            <span>
              <i data-state="partial" /> partly
            </span>
            <span>
              <i data-state="running" /> running
            </span>
            <span>
              <i data-state="pending" /> waiting
            </span>
            {failed !== undefined && (
              <span>
                <i data-state="failed" /> failed
              </span>
            )}
          </>
        )}
        {map.chunksPerCell > 1n && (
          <span class="scale">a cell is {plural(map.chunksPerCell, "chunk")}</span>
        )}
      </p>
    </div>
  );
}

function Provenance({ job }: { job: Job }) {
  const shares = Object.entries(job.handledBy).sort(([, a], [, b]) => (a < b ? 1 : a > b ? -1 : 0));
  const most = shares[0]?.[1] ?? 1n;
  return (
    <div class="provenance">
      <dl>
        <div>
          <dt>Accepted by</dt>
          <dd data-testid="accepted-by">{job.initiatedBy || "–"}</dd>
        </div>
        <div>
          <dt>Answered by</dt>
          <dd data-testid="answered-by">{job.checkedBy || "–"}</dd>
        </div>
      </dl>
      <table data-testid="computed-by">
        <caption>Computed by</caption>
        <thead class="visually-hidden">
          <tr>
            <th scope="col">Worker</th>
            <th scope="col">Share</th>
            <th scope="col">Chunks</th>
          </tr>
        </thead>
        <tbody>
          {shares.map(([worker, chunks]) => (
            <tr key={worker} data-worker={worker}>
              <th scope="row" title={worker}>
                {worker}
              </th>
              <td class="share">
                <span style={{ width: `${Number((chunks * 1000n) / most) / 10}%` }} />
              </td>
              <td class="count">{grouped(chunks)}</td>
            </tr>
          ))}
          {shares.length === 0 && (
            <tr>
              <td class="soft">nobody yet</td>
            </tr>
          )}
        </tbody>
      </table>
    </div>
  );
}

interface FactsProps {
  job: Job;
  now: number;
  onShowAbacus: (abacus: string) => void;
}

function Facts({ job, now, onShowAbacus }: FactsProps) {
  const waited = waitingMs(job, now);
  const abacus = job.abacus.replace(/^abaci\//, "");
  const posting = job.abacusPosting;
  const rows: [string, string][] = [];
  const method = methodWords(job);
  if (method) rows.push(["Method", method]);
  if (job.createTime) rows.push(["Created", clock(instant(job.createTime), now)]);
  if (waited !== undefined) rows.push(["Waited", span(waited)]);
  if (job.endTime) rows.push(["Ended", clock(instant(job.endTime), now)]);
  if (job.endTime && job.computeTime) rows.push(["Processor time", span(length(job.computeTime))]);
  if (job.error?.worker)
    rows.push(["Failed in", `chunk ${grouped(job.error.chunk)} on ${job.error.worker}`]);
  if (job.progress?.chunksRetrying)
    rows.push(["To be retried", grouped(job.progress.chunksRetrying)]);
  if (job.failedAttempts) rows.push(["Failed attempts", grouped(job.failedAttempts)]);
  if (job.lostLeases) rows.push(["Lost with a worker", grouped(job.lostLeases)]);
  if (job.refusedDuplicates) rows.push(["Duplicates refused", grouped(job.refusedDuplicates)]);
  return (
    <dl class="facts">
      <div>
        <dt>Job</dt>
        <dd>
          <a href={`#/${job.name}`}>{job.name.replace(/^jobs\//, "")}</a>
        </dd>
      </div>
      {rows.map(([term, text]) => (
        <div key={term}>
          <dt>{term}</dt>
          <dd>{text}</dd>
        </div>
      ))}
      {abacus && (
        <div>
          <dt>Abacus</dt>
          <dd>
            <button type="button" class="inline" onClick={() => onShowAbacus(abacus)}>
              {abacus}
            </button>
            {posting?.error && `: ${posting.error}`}
            {posting?.postTime && `, then ${grouped(posting.sum)}`}
          </dd>
        </div>
      )}
    </dl>
  );
}

/** Share done in per cent, to one digit, rounded down: 100 only when all is done. */
function percentDone(job: Job): number {
  return Math.floor((job.progress?.fraction ?? 0) * 1_000) / 10;
}

function rate(perSecond: number): string {
  return perSecond < 99.95 ? perSecond.toFixed(1) : grouped(Math.round(perSecond));
}
