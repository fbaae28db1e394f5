// Builds the page into dist/: the same sources always give the same bytes, and every file that the
// page loads carries the hash of its contents in its name, so that it may be cached for ever.

import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { basename } from "node:path";
import { build } from "esbuild";

await rm("dist", { recursive: true, force: true });
const { metafile } = await build({
  entryPoints: {
    page: "src/main.tsx",
    style: "src/page.css",
    icon: "src/icon.svg",
    api: "src/api.ts",
    "api-style": "src/api.css",
  },
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

// Entry points are called as they stand above; a name is followed by a hash of eight characters.
const asset = (name) => {
  const made = Object.keys(metafile.outputs).map((path) => basename(path));
  return `/assets/${made.find((file) => file.slice(0, file.lastIndexOf("-")) === name)}`;
};
const pages = [
  ["src/index.html", "dist/index.html", { icon: "icon", style: "style", script: "page" }],
  ["src/api.html", "dist/docs/index.html", { icon: "icon", style: "api-style", script: "api" }],
];
await mkdir("dist/docs");
for (const [source, target, names] of pages) {
  let page = await readFile(source, "utf8");
  for (const [place, name] of Object.entries(names)) page = page.replace(`{${place}}`, asset(name));
  await writeFile(target, page);
}
await copyFile("src/openapi.json", "dist/openapi.json");

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
  return `${name} ${version}: ${license}\n${text && `\n${text.trim().replaceAll("\r\n", "\n")}\n`}`;
});
await writeFile("dist/licenses.txt", (await Promise.all(notices)).join("\n"));
