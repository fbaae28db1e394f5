/** Reading and writing of whole numbers and decimals of any size; none passes through a double. */

import { Problem } from "./problem";

/** The largest bound of a range: 2^64 - 1. */
export const UINT64_MAX = 2n ** 64n - 1n;

/** The largest number of chunks: 2^22. */
export const CHUNKS_MAX = 2n ** 22n;

/** Digits, plain (10_000 included) or in groups of three (10,000 or 10 000). */
const DIGITS = String.raw`\d+(?:_\d+)*|\d{1,3}(?:[, \u00a0\u202f]\d{3})+`;
const PLAIN = new RegExp(`^([+-]?)(${DIGITS})$`);
const POWER = new RegExp(String.raw`^([+-]?)(${DIGITS})\s*(?:\^|\*\*)\s*(\d+)$`);
const SCIENTIFIC = /^([+-]?)(\d+(?:_\d+)*)(?:\.(\d+))?e\+?(\d+)$/i;
const DECIMAL = /^[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?$/i;

/** Exponents above it make numbers beyond every bound, too long to be worth writing out. */
const EXPONENT_MAX = 400;

/**
 * Reads a whole number as people write it: 10000000000, 10_000, 10,000, 1e10, 1.5e9, 10^10, 2**40.
 * Answers "unreadable" for anything else, and "huge" for what is too long to write out.
 */
export function parseInteger(text: string): bigint | "unreadable" | "huge" {
  const trimmed = text.trim();
  const plain = PLAIN.exec(trimmed);
  if (plain) return signed(plain[1], BigInt(bare(plain[2])));
  const power = POWER.exec(trimmed);
  if (power) {
    const base = BigInt(bare(power[2]));
    const exponent = Number(power[3]);
    if (exponent > EXPONENT_MAX) return base > 1n ? "huge" : signed(power[1], base);
    return signed(power[1], base ** BigInt(exponent));
  }
  const scientific = SCIENTIFIC.exec(trimmed);
  if (scientific) {
    const fraction = (scientific[3] ?? "").replace(/0+$/, "");
    const mantissa = BigInt(bare(scientific[2]) + fraction);
    const exponent = Number(scientific[4]) - fraction.length;
    if (exponent < 0) return "unreadable";
    if (exponent > EXPONENT_MAX) return mantissa > 0n ? "huge" : 0n;
    return signed(scientific[1], mantissa * 10n ** BigInt(exponent));
  }
  return "unreadable";
}

/** Reads a whole number from `min` to `max`; throws a Problem that names the field and the bound. */
export function readInteger(field: string, text: string, min: bigint, max: bigint): bigint {
  const number = parseInteger(text);
  if (typeof number !== "bigint" || number < min || number > max) {
    throw new Problem("INVALID_FIELD", {
      field,
      value: text.trim(),
      bound: `a whole number from ${min} to ${max}`,
    });
  }
  return number;
}

/** Reads a decimal into the form that the mesh takes; throws a Problem that names the field. */
export function readDecimal(field: string, text: string): string {
  const number = parseInteger(text);
  if (typeof number === "bigint") return number.toString();
  const trimmed = text.trim().replace(/(?<=\d)_(?=\d)/g, "");
  if (number === "huge" || !DECIMAL.test(trimmed)) {
    throw new Problem("INVALID_FIELD", {
      field,
      value: text.trim(),
      bound: "a decimal such as 5, -0.1 or 10^10",
    });
  }
  return trimmed;
}

/** Writes a number with a comma between thousands. */
export function grouped(number: bigint | number | string): string {
  const [whole = "", fraction] = String(number).split(".");
  const digits = whole.replace(/\B(?=(?:\d{3})+$)/g, ",").replace("-", "−");
  return fraction === undefined ? digits : `${digits}.${fraction}`;
}

/** Writes a number as short as it goes without losing a digit: 10¹⁰, 25×10⁸, 12,345. */
export function compact(number: bigint): string {
  const [, head = "", zeros = ""] = /^(\d*?)(0*)$/.exec(number.toString()) ?? [];
  if (zeros.length < 5 || head.length > 3) return grouped(number);
  const power = `10${[...String(zeros.length)].map((digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]).join("")}`;
  return head === "1" ? power : `${head}×${power}`;
}

function bare(digits: string | undefined): string {
  return (digits ?? "").replace(/\D/g, "");
}

function signed(sign: string | undefined, number: bigint): bigint {
  return sign === "-" ? -number : number;
}
