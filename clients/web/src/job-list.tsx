import { useState } from "preact/hooks";
import type { Job } from "./gen/tallymesh/v1/job_pb";
import { JobView } from "./gen/tallymesh/v1/job_service_pb";
import { useNow, useRepeated } from "./hooks";
import { hasEnded, stateName, total, workWords } from "./job";
import { CALL, jobs } from "./mesh";
import { grouped } from "./numbers";
import { problemOf, type Problem } from "./problem";
import { ProblemNote } from "./problem-note";
import { ago, instant } from "./time";

const PAGE = 10;
const MOST = 200;
const POLL_MS = 4_000;
/** While a listed job is under way. */
const BUSY_POLL_MS = 1_000;

interface JobListProps {
  /** Name of the watched job. */
  watched: string;
  /** Changes whenever something has happened that the list should show. */
  turn: number;
  skewMs: number;
}

/** The newest jobs. */
export function JobList({ watched, turn, skewMs }: JobListProps) {
  const [listed, setListed] = useState<Job[]>();
  const [size, setSize] = useState(PAGE);
  const [more, setMore] = useState(false);
  const [problem, setProblem] = useState<Problem>();
  const now = useNow(1_000, skewMs);
  const pollMs = listed?.every(hasEnded) ? POLL_MS : BUSY_POLL_MS;

  useRepeated(
    async (signal) => {
      try {
        const request = { pageSize: size, view: JobView.FULL };
        const answer = await jobs.listJobs(request, { ...CALL, signal });
        setListed(answer.jobs);
        setMore(answer.nextPageToken !== "" && size < MOST);
        setProblem(undefined);
      } catch (thrown) {
        if (!signal.aborted) setProblem(problemOf(thrown));
      }
    },
    pollMs,
    [turn, size, pollMs],
  );

  return (
    <section class="card" aria-labelledby="jobs-title">
      <h2 id="jobs-title">Recent jobs</h2>
      {problem && <ProblemNote problem={problem} testId="jobs-problem" />}
      <ol class="jobs" data-testid="jobs">
        {listed?.map((job) => (
          <li key={job.name}>
            <a
              href={`#/${job.name}`}
              aria-current={job.name === watched}
              data-state={stateName(job)}
            >
              <span class="dot" aria-hidden="true" />
              <span class="what">{workWords(job, true)}</span>
              <span class="value">{value(job)}</span>
              <span class="when">
                {stateName(job).toLowerCase()}
                {job.createTime && `, ${ago(now - instant(job.createTime))}`}
              </span>
            </a>
          </li>
        ))}
      </ol>
      {listed?.length === 0 && <p class="soft">None yet. Count something.</p>}
      {more && (
        <button type="button" class="quiet wide" onClick={() => setSize(size + PAGE)}>
          Show more
        </button>
      )}
    </section>
  );
}

function value(job: Job): string {
  if (hasEnded(job)) return job.result ? grouped(total(job)) : "";
  return `${Math.floor((job.progress?.fraction ?? 0) * 100)} %`;
}
