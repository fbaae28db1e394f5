// Builds the page into dist/: the same sources always give the same bytes, and every file that the
// page loads carries the hash of its contents in its name, so that it may be cached for ever.

import { readFile, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { build } from "esbuild";

await rm("dist", { recursive: true, force: true });
const { metafile } = await build({
  entryPoints: { page: "src/main.tsx", style: "src/page.css", icon: "src/icon.svg" },
  entryNames: "assets/[name]-[hash]",
  outdir: "dist",
  bundle: true,
  format: "esm",
  target: "es2022",
  loader: { ".svg": "copy" },
  minify: true,
  legalComments: "none",
  metafile: true,
});

const asset = (extension) => {
  const made = Object.keys(metafile.outputs).find((path) => path.endsWith(extension));
  return `/assets/${basename(made)}`;
};
const page = (await readFile("src/index.html", "utf8"))
  .replace("{icon}", asset(".svg"))
  .replace("{style}", asset(".css"))
  .replace("{script}", asset(".js"));
await writeFile("dist/index.html", page);

// What others wrote and the bundle contains, with the notices that they ask to be passed on.
const bundled = new Set(
  Object.keys(metafile.inputs).flatMap(
    (path) => /^node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? [],
  ),
);
const notices = [...bundled].sort().map(async (name) => {
  const { version, license } = JSON.parse(
    await readFile(`node_modules/${name}/package.json`, "utf8"),
  );
  const text = await readFile(`node_modules/${name}/LICENSE`, "utf8").catch(() => "");
  return `${name} ${version}: ${license}\n${text && `\n${text.trim()}\n`}`;
});
await writeFile("dist/licenses.txt", (await Promise.all(notices)).join("\n"));
