import { useState } from "preact/hooks";
import {
  GetHealthResponse_Status as Status,
  type GetHealthResponse,
  type WhoAmIResponse,
} from "./gen/tallymesh/v1/mesh_service_pb";
import { useRepeated } from "./hooks";
import { plural } from "./job";
import { CALL, mesh } from "./mesh";
import { grouped } from "./numbers";
import { problemOf, sentence, type Problem } from "./problem";
import { instant, length, span } from "./time";

const POLL_MS = 4_000;

const WORDS: Readonly<Record<Status, string>> = {
  [Status.UNSPECIFIED]: "Unknown",
  [Status.HEALTHY]: "Healthy",
  [Status.DEGRADED]: "Degraded",
  [Status.UNHEALTHY]: "Unhealthy",
};

/** How the mesh is, as last heard. */
export interface Health {
  mesh?: GetHealthResponse;
  who?: WhoAmIResponse;
  /** Why the last poll failed. */
  problem?: Problem;
  /** How far the mesh's clock is ahead of the browser's, in milliseconds. */
  skewMs: number;
}

/** Asks the mesh every few seconds how it is. */
export function useHealth(): Health {
  const [health, setHealth] = useState<Health>({ skewMs: 0 });
  useRepeated(
    async (signal) => {
      try {
        const asked = Date.now();
        const who = await mesh.whoAmI({}, { ...CALL, signal });
        const midway = (asked + Date.now()) / 2;
        const skewMs = who.time ? instant(who.time) - midway : 0;
        setHealth({ mesh: await mesh.getHealth({}, { ...CALL, signal }), who, skewMs });
      } catch (thrown) {
        if (!signal.aborted) setHealth((last) => ({ ...last, problem: problemOf(thrown) }));
      }
    },
    POLL_MS,
    [],
  );
  return health;
}

/** The health of the mesh in a line that opens to its workers and its store. */
export function MeshHealth({ health }: { health: Health }) {
  const { mesh: answer, who, problem } = health;
  const status = problem ? "unreachable" : (Status[answer?.status ?? 0] ?? "").toLowerCase();
  const words = problem ? "Unreachable" : answer ? WORDS[answer.status] : "Connecting…";
  return (
    <div class="health">
      <button type="button" popovertarget="mesh" data-testid="health" data-status={status}>
        <span class="dot" aria-hidden="true" />
        <strong>{words}</strong>
        {answer && !problem && (
          <>
            <span>
              {plural(answer.workerCount, "worker")}
              <span class="optional">, {plural(answer.slotCount, "slot")}</span>
            </span>
            {answer.problems[0] ? (
              <span class="why">{answer.problems[0]}</span>
            ) : (
              <>
                <span class="optional">{answer.store?.server}</span>
                <span class="optional">answered by {answer.answeredBy}</span>
              </>
            )}
          </>
        )}
      </button>
      <div id="mesh" popover="auto" role="region" aria-label="The mesh">
        {problem && <p>{problem.message || "No answer from the mesh."} Trying again.</p>}
        {answer && (
          <>
            {answer.problems.map((line) => (
              <p key={line}>{sentence(line)}</p>
            ))}
            {answer.workers.length > 0 && (
              <table>
                <thead>
                  <tr>
                    <th scope="col">Worker</th>
                    <th scope="col">Slots</th>
                    <th scope="col">Holds</th>
                  </tr>
                </thead>
                <tbody>
                  {answer.workers.map(({ worker, chunksHeld, draining }) => (
                    <tr key={worker?.uid}>
                      <td>
                        {worker?.name}
                        {draining && " (leaving)"}
                      </td>
                      <td>{worker?.slots}</td>
                      <td>{grouped(chunksHeld)}</td>
                    </tr>
                  ))}
                </tbody>
              </table>
            )}
            <dl>
              {answer.store?.connected && (
                <>
                  <dt>Store</dt>
                  <dd>{answer.store.server}</dd>
                  {answer.store.latency && (
                    <>
                      <dt>Answers in</dt>
                      <dd>{span(length(answer.store.latency))}</dd>
                    </>
                  )}
                  <dt>Kept</dt>
                  <dd>{answer.store.durability || "unknown"}</dd>
                  <dt>Memory</dt>
                  <dd>{mebibytes(answer.store.memoryBytes)}</dd>
                  {answer.store.evictedKeyCount > 0n && (
                    <>
                      <dt>Evicted</dt>
                      <dd>{plural(Number(answer.store.evictedKeyCount), "key")}</dd>
                    </>
                  )}
                </>
              )}
              <dt>Answered by</dt>
              <dd>
                {answer.answeredBy} {answer.version}
              </dd>
              {who && (
                <>
                  <dt>You are</dt>
                  <dd>
                    {who.principal}, tenant {who.tenant}
                  </dd>
                </>
              )}
            </dl>
          </>
        )}
      </div>
    </div>
  );
}

function mebibytes(bytes: bigint): string {
  return `${(Number(bytes) / 2 ** 20).toFixed(1)} MiB`;
}
