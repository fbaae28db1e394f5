/** The page: one job watched, one abacus watched, and the newest jobs. */

import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { AbacusPanel } from "./abacus-panel";
import type { Job } from "./gen/tallymesh/v1/job_pb";
import { useWatchedJob } from "./hooks";
import { JobForm } from "./job-form";
import { JobList } from "./job-list";
import { JobPanel } from "./job-panel";
import { MeshHealth, useHealth } from "./mesh-health";

function Page() {
  const watched = useWatchedJob();
  const health = useHealth();
  const [accepted, setAccepted] = useState<Job>();
  const [abacus, setAbacus] = useState("main");
  const [turn, setTurn] = useState(0);
  const { skewMs } = health;

  const follow = (job: Job): void => {
    setAccepted(job);
    if (job.abacus) setAbacus(job.abacus.replace(/^abaci\//, ""));
    window.location.hash = `#/${job.name}`;
  };

  useEffect(() => {
    document.title = watched ? `${watched.replace("jobs/", "")} · Tallymesh` : "Tallymesh";
  }, [watched]);

  return (
    <>
      <header class="top">
        <a class="brand" href="#/">
          <svg viewBox="0 0 28 24" width="28" height="24" aria-hidden="true">
            <path d="M6 3v18M11.3 3v18M16.7 3v18M22 3v18" />
            <path class="stroke" d="M1.5 17.5 26.5 6.5" />
          </svg>
          <h1>Tallymesh</h1>
        </a>
        <MeshHealth health={health} />
      </header>
      <main>
        <div class="column">
          <JobForm onCreated={follow} />
          {watched ? (
            <JobPanel
              key={watched}
              name={watched}
              accepted={accepted?.name === watched ? accepted : undefined}
              skewMs={skewMs}
              onTurn={() => setTurn((last) => last + 1)}
              onShowAbacus={setAbacus}
            />
          ) : (
            <section class="card empty">
              <p>
                The mesh cuts a count into chunks, its workers compute them, and every chunk counts
                exactly once. Start one, or pick a job, and watch it here.
              </p>
            </section>
          )}
        </div>
        <div class="column side">
          <AbacusPanel name={abacus} onName={setAbacus} skewMs={skewMs} />
          <JobList watched={watched} turn={turn} skewMs={skewMs} />
        </div>
      </main>
    </>
  );
}

const root = document.getElementById("page");
if (root) render(<Page />, root);
