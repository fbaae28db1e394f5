import assert from "node:assert/strict";
import { test } from "node:test";
import {
  compact,
  grouped,
  parseInteger,
  readDecimal,
  readInteger,
  UINT64_MAX,
} from "../src/numbers";
import { Problem } from "../src/problem";

test("whole numbers are read as people write them", () => {
  const written: [string, bigint][] = [
    ["0", 0n],
    [" 42 ", 42n],
    ["-5", -5n],
    ["+5", 5n],
    ["10_000", 10_000n],
    ["10,000", 10_000n],
    ["10 000 000", 10_000_000n],
    ["1e10", 10n ** 10n],
    ["1E+3", 1_000n],
    ["1.5e9", 1_500_000_000n],
    ["1.50e1", 15n],
    ["0e999999999", 0n],
    ["10^10", 10n ** 10n],
    ["2**40", 2n ** 40n],
    ["2 ^ 64", 2n ** 64n],
    ["1^999999999", 1n],
    ["18446744073709551615", UINT64_MAX],
  ];
  for (const [text, number] of written) assert.equal(parseInteger(text), number, text);
});

test("what is no whole number is unreadable", () => {
  for (const text of [
    "",
    "x",
    "1.5",
    "1.55e1",
    "1e-3",
    "2^-1",
    "1,5",
    "1_",
    "0x10",
    "1e",
    "^2",
    "∞",
  ]) {
    assert.equal(parseInteger(text), "unreadable", text);
  }
});

test("numbers too long to write out are not written out", () => {
  for (const text of ["10^999999999", "2**1000000", "1e1000000000"]) {
    assert.equal(parseInteger(text), "huge", text);
  }
});

test("a bound that is broken is named with its field and value", () => {
  assert.equal(readInteger("to", "2^64", 0n, 2n ** 64n), 2n ** 64n);
  for (const text of ["-1", "2^64", "10^99999", "many", ""]) {
    assert.throws(
      () => readInteger("to", text, 0n, UINT64_MAX),
      (thrown) =>
        thrown instanceof Problem &&
        thrown.reason === "INVALID_FIELD" &&
        thrown.field === "to" &&
        thrown.value === text &&
        thrown.bound === "a whole number from 0 to 18446744073709551615",
      text,
    );
  }
});

test("decimals keep every digit", () => {
  const written: [string, string][] = [
    ["5", "5"],
    ["-0.1", "-0.1"],
    [".5", ".5"],
    ["1e-3", "1e-3"],
    ["10^3", "1000"],
    ["1_000.25", "1000.25"],
    ["123456789012345678901234567890.5", "123456789012345678901234567890.5"],
  ];
  for (const [text, decimal] of written) assert.equal(readDecimal("amount", text), decimal, text);
  for (const text of ["", "five", "NaN", "Infinity", "1/2", "10^999"]) {
    assert.throws(() => readDecimal("amount", text), Problem, text);
  }
});

test("numbers are written in groups, or short without losing a digit", () => {
  assert.equal(grouped(UINT64_MAX), "18,446,744,073,709,551,615");
  assert.equal(grouped("-1234.56789"), "−1,234.56789");
  assert.equal(grouped(999), "999");
  assert.equal(compact(10n ** 11n), "10¹¹");
  assert.equal(compact(25n * 10n ** 8n), "25×10⁸");
  assert.equal(compact(10_000n), "10,000");
  assert.equal(compact(0n), "0");
  assert.equal(compact(123_456_789_012n), "123,456,789,012");
});
