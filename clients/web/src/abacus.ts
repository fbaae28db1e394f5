/** Names of abaci. */

import { Problem } from "./problem";

const NAME = /^[a-z][a-z0-9-]{0,62}$/;

/** Reads an abacus's name; throws a Problem that names the field and the bound. */
export function abacusName(field: string, text: string): string {
  const name = text.trim();
  if (!NAME.test(name)) {
    throw new Problem("INVALID_FIELD", {
      field,
      value: name,
      bound: "1 to 63 characters of a-z, 0-9 and -, starting with a letter",
    });
  }
  return name;
}
