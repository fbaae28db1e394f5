import { grouped } from "./numbers";
import { meaning, sentence, type Problem } from "./problem";

interface ProblemNoteProps {
  problem: Problem;
  /** What the field at fault is called on the page; empty if the problem belongs to no field. */
  label?: string;
  id?: string;
  testId: string;
}

/** Shows a problem: what must hold, what was given, and the reason by name. */
export function ProblemNote({ problem, label, id, testId }: ProblemNoteProps) {
  const { reason, message, value, bound } = problem;
  const given = value.length > 60 ? `${value.slice(0, 60)}…` : value;
  return (
    <p class="problem" role="alert" id={id} data-testid={testId} data-reason={reason}>
      {bound ? (
        <>
          <strong>
            “{label ?? problem.field}” must be {readable(bound)}.
          </strong>{" "}
          {given ? <>You gave “{given}”.</> : "It is empty."}
        </>
      ) : (
        <>
          <strong>{meaning(reason)}.</strong> {sentence(message)}
        </>
      )}{" "}
      <code>{reason}</code>
    </p>
  );
}

/** Groups the long numbers of a bound, which is read by people. */
function readable(bound: string): string {
  return bound.replace(/(?<![\d.])\d{5,}/g, (digits) => grouped(digits));
}
