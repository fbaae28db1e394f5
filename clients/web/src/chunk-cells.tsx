import type { ChunkMap } from "./gen/tallymesh/v1/job_pb";
import { plural } from "./job";

const RUNNING = 0x80;

interface ChunkCellsProps {
  map: ChunkMap;
  /** Index of the chunk of which the job failed, if it did. */
  failed: bigint | undefined;
}

/** A picture of all chunks of a job: a cell for one or more of them, filled as far as it is done. */
export function ChunkCells({ map, failed }: ChunkCellsProps) {
  const failedCell = failed === undefined ? -1 : Number(failed / map.chunksPerCell);
  const cells = Array.from(map.cells);
  const done = cells.filter((cell) => percent(cell) === 100).length;
  const running = cells.filter((cell) => cell & RUNNING).length;
  return (
    <div
      class="cells"
      role="img"
      aria-label={`${done} of ${plural(cells.length, "cell")} done, ${running} running${failedCell >= 0 ? ", 1 failed" : ""}`}
      data-testid="cells"
      style={{
        "--columns": columns(cells.length, 64),
        "--columns-narrow": columns(cells.length, 32),
      }}
    >
      {cells.map((cell, index) => (
        <i
          key={index}
          data-state={index === failedCell ? "failed" : cellState(cell)}
          title={index === failedCell ? `chunk ${failed} failed` : undefined}
          style={{ "--done": `${percent(cell)}%` }}
        />
      ))}
    </div>
  );
}

function percent(cell: number): number {
  return cell & ~RUNNING;
}

function cellState(cell: number): string {
  if (percent(cell) === 100) return "done";
  if (cell & RUNNING) return "running";
  return percent(cell) > 0 ? "partial" : "pending";
}

/** The number of columns that fills its rows best, with at most `most` of them. */
function columns(cells: number, most: number): number {
  return Math.ceil(cells / Math.ceil(cells / most));
}
