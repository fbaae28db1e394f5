import { useEffect, useRef, useState } from "preact/hooks";
import { abacusName } from "./abacus";
import { follow, type Link } from "./follow";
import type { Sum } from "./gen/tallymesh/v1/abacus_service_pb";
import { useNow } from "./hooks";
import { plural } from "./job";
import { abaci, CALL, RequestIds } from "./mesh";
import { grouped, readDecimal } from "./numbers";
import { problemOf, type Problem } from "./problem";
import { ProblemNote } from "./problem-note";
import { ago, instant } from "./time";

/** How long typing must rest before a new name is watched. */
const TYPING_MS = 300;

type FieldName = "name" | "amount";

const LABELS: Readonly<Record<FieldName, string>> = { name: "Name", amount: "Number" };

/** The field of the panel for the last part of a field's path in a request. */
const FIELD_OF_PATH: Readonly<Record<string, FieldName>> = {
  name: "name",
  amount: "amount",
  number: "amount",
  decimal: "amount",
};

interface AbacusPanelProps {
  name: string;
  onName: (name: string) => void;
  skewMs: number;
}

/** One abacus, live. */
export function AbacusPanel({ name, onName, skewMs }: AbacusPanelProps) {
  const [sum, setSum] = useState<Sum>();
  const [link, setLink] = useState<Link>("connecting");
  const [amount, setAmount] = useState("");
  const [said, setSaid] = useState("");
  const [problem, setProblem] = useState<Problem>();
  const [busy, setBusy] = useState(false);
  const [confirming, setConfirming] = useState(false);
  const adds = useRef(new RequestIds()).current;
  const resets = useRef(new RequestIds()).current;
  const now = useNow(1_000, skewMs);
  const faulty = problem && FIELD_OF_PATH[problem.field.split(".").pop() ?? ""];

  useEffect(() => {
    setSum(undefined);
    setSaid("");
    setConfirming(false);
    setProblem(undefined);
    let close = (): void => {};
    const timer = setTimeout(() => {
      try {
        const watched = `abaci/${abacusName("name", name)}`;
        close = follow({
          open: (signal) => abaci.watchSum({ name: watched }, { signal }),
          take: (latest) => {
            setSum((last) => newest(last, latest));
            return false;
          },
          link: setLink,
          refused: setProblem,
        });
      } catch (thrown) {
        setProblem(problemOf(thrown));
      }
    }, TYPING_MS);
    return () => {
      clearTimeout(timer);
      close();
    };
  }, [name]);

  /** Does what a button asks for, and shows what came of it. */
  const perform = async (action: () => Promise<{ sum?: Sum; said: string }>): Promise<void> => {
    if (busy) return;
    setBusy(true);
    setProblem(undefined);
    setSaid("");
    try {
      const outcome = await action();
      const { sum: latest } = outcome;
      if (latest) setSum((last) => newest(last, latest));
      setSaid(outcome.said);
    } catch (thrown) {
      setProblem(problemOf(thrown));
    } finally {
      setBusy(false);
    }
  };

  const add = (event: Event): Promise<void> => {
    event.preventDefault();
    return perform(async () => {
      const abacus = `abaci/${abacusName("name", name)}`;
      const decimal = readDecimal("amount", amount);
      const answer = await abaci.addNumber(
        {
          name: abacus,
          amount: { case: "decimal", value: decimal },
          requestId: adds.for(`${abacus} ${decimal}`),
        },
        CALL,
      );
      adds.settle();
      setAmount("");
      return { sum: answer.sum, said: `Added ${grouped(answer.added)}.` };
    });
  };

  const reset = (): Promise<void> => {
    setConfirming(false);
    return perform(async () => {
      const abacus = `abaci/${abacusName("name", name)}`;
      const request = { name: abacus, requestId: resets.for(abacus) };
      const answer = await abaci.resetSum(request, CALL);
      resets.settle();
      return {
        sum: answer.sum,
        said: `Reset; it was ${grouped(answer.previous?.value ?? "0")}.`,
      };
    });
  };

  const note = problem && (
    <ProblemNote
      problem={problem}
      label={faulty && LABELS[faulty]}
      id="abacus-problem"
      testId="abacus-error"
    />
  );
  return (
    <section class="card abacus" aria-labelledby="abacus-title">
      <h2 id="abacus-title">Abacus</h2>
      <div class="field">
        <label for="abacus-name">{LABELS.name}</label>
        <input
          id="abacus-name"
          data-testid="abacus-name"
          value={name}
          onInput={(event) => onName(event.currentTarget.value.trim())}
          aria-invalid={faulty === "name"}
          aria-describedby={faulty === "name" ? "abacus-problem" : undefined}
          autocomplete="off"
          autocapitalize="off"
          spellcheck={false}
        />
      </div>
      {faulty === "name" && note}
      <p class="headline">
        <output
          class={sum && sum.value.length > 14 ? "long" : ""}
          data-testid="abacus-sum"
          aria-live="off"
        >
          {sum ? grouped(sum.value) : "–"}
        </output>
        <span>
          {link === "reconnecting" && <span class="link">Reconnecting… </span>}
          {!sum && link !== "reconnecting" && (faulty === "name" ? "Not watched" : "Connecting…")}
          {sum && plural(sum.addCount, "add")}
          {sum?.updateTime && `, last ${ago(now - instant(sum.updateTime))}`}
          {sum?.answeredBy && `, by ${sum.answeredBy}`}
        </span>
      </p>
      <form class="adding" onSubmit={add} noValidate>
        <div class="field">
          <label for="abacus-amount">Add a number</label>
          <input
            id="abacus-amount"
            data-testid="abacus-amount"
            value={amount}
            placeholder="5, -0.1, 10^10"
            onInput={(event) => {
              setAmount(event.currentTarget.value);
              if (faulty !== "name") setProblem(undefined);
            }}
            aria-invalid={faulty === "amount"}
            aria-describedby={faulty === "amount" ? "abacus-problem" : undefined}
            autocomplete="off"
            spellcheck={false}
          />
        </div>
        <button class="primary" type="submit" data-testid="abacus-add" disabled={busy}>
          Add
        </button>
      </form>
      {faulty !== "name" && note}
      <div class="row spread">
        <span class="soft" role="status" data-testid="abacus-said">
          {said}
        </span>
        {confirming ? (
          <span class="confirm" role="group" aria-label="Confirm the reset">
            <button
              type="button"
              class="quiet danger"
              data-testid="abacus-reset-confirm"
              onClick={reset}
              ref={(button) => button?.focus()}
            >
              Set to 0
            </button>
            <button
              type="button"
              class="quiet"
              data-testid="abacus-reset-keep"
              onClick={() => setConfirming(false)}
            >
              Keep
            </button>
          </span>
        ) : (
          <button
            type="button"
            class="quiet"
            data-testid="abacus-reset"
            disabled={busy || !sum}
            onClick={() => setConfirming(true)}
          >
            Reset…
          </button>
        )}
      </div>
    </section>
  );
}

function newest(last: Sum | undefined, next: Sum): Sum {
  // One that was deleted begins anew, from version 0.
  const isOlder = last?.name === next.name && last.version > next.version && next.version > 0n;
  return isOlder ? last : next;
}
