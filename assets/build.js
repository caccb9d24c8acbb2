// Builds everything that browsers load: node build.js [folder]
// Each file's name carries a digest of what is in it; manifest.json says which file is which, and where it came from.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const folder = process.argv[2] ?? join(here, "..", "src", "tollhouse", "web", "static", "dist");
const target = `${folder}.new`; // what was built before stays until all of this is
const modules = join(here, "node_modules");
const FONT = "@fontsource-variable/instrument-sans";
const BASECOAT = ["basecoat", "combobox", "popover", "sidebar", "tabs", "toast"];

const read = (...parts) => readFileSync(join(here, ...parts));
const text = (...parts) => read(...parts).toString();
const digest = (data, algorithm, encoding) => createHash(algorithm).update(data).digest(encoding);

function packageOf(name) {
  const { version, license } = JSON.parse(readFileSync(join(modules, name, "package.json")));
  return { package: name, version, licence: license };
}

const OWN = { package: "tollhouse", version: null, licence: "MIT" };
const files = {};
const licences = new Set();

function put(name, data, from) {
  const content = Buffer.from(data);
  const [stem, extension] = [name.slice(0, name.lastIndexOf(".")), name.slice(name.lastIndexOf("."))];
  const file = `${stem}.${digest(content, "sha256", "hex").slice(0, 12)}${extension}`;
  writeFileSync(join(target, file), content);
  files[name] = { file, integrity: `sha384-${digest(content, "sha384", "base64")}`, ...from };
  if (from !== OWN) licences.add(from.package);
}

function sprite() {
  const names = text("icons.txt").split(/\s+/).filter(Boolean).sort();
  const symbols = names.map((name) => {
    const svg = text("node_modules", "lucide-static", "icons", `${name}.svg`);
    const shapes = svg.slice(svg.indexOf(">", svg.indexOf("<svg")) + 1, svg.lastIndexOf("</svg>")).replace(/\s*\n\s*/g, "");
    return (
      `<symbol id="${name}" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="1.75" ` +
      `stroke-linecap="round" stroke-linejoin="round">${shapes}</symbol>`
    );
  });
  return `<svg xmlns="http://www.w3.org/2000/svg">${symbols.join("")}</svg>`;
}

function stylesheet() {
  const cli = join(modules, "@tailwindcss", "cli", "dist", "index.mjs");
  const options = { cwd: here, maxBuffer: 64 * 2 ** 20, stdio: ["ignore", "pipe", "pipe"] };
  const css = execFileSync(process.execPath, [cli, "-i", "css/app.css", "--minify"], options).toString();
  return css.replace(/\/static\/(sans(?:-ext)?\.woff2)/g, (_, name) => `/static/${files[name].file}`);
}

const plain = (script) => script.replace(/^\/\/# sourceMappingURL=.*$/m, "").trim();
const joined = (...scripts) => scripts.map(plain).join(";\n") + "\n";
const basecoat = (name) => text("node_modules", "basecoat-css", "dist", "js", `${name}.min.js`);

rmSync(target, { recursive: true, force: true });
mkdirSync(target, { recursive: true });
put("sans.woff2", read("node_modules", FONT, "files", "instrument-sans-latin-wght-normal.woff2"), packageOf(FONT));
put("sans-ext.woff2", read("node_modules", FONT, "files", "instrument-sans-latin-ext-wght-normal.woff2"), packageOf(FONT));
put("app.css", stylesheet(), packageOf("basecoat-css"));
put("theme.js", text("js", "theme.js"), OWN);
put("app.js", text("js", "app.js"), OWN);
put("figures.js", text("js", "figures.js"), OWN);
put("chat.js", text("js", "chat.js"), OWN);
put("document.js", text("js", "document.js"), OWN);
put("live.js", text("js", "live.js"), OWN);
put("playground.js", text("js", "playground.js"), OWN);
put("picker.js", text("js", "picker.js"), OWN);
put("basecoat.js", joined(...BASECOAT.map(basecoat)), packageOf("basecoat-css"));
const htmx = (...parts) => text("node_modules", "htmx.org", "dist", ...parts);
put("htmx.js", joined(htmx("htmx.min.js"), htmx("ext", "hx-sse.min.js")), packageOf("htmx.org"));
put("chart.js", joined(text("node_modules", "chart.js", "dist", "chart.umd.min.js"), basecoat("chart")), packageOf("chart.js"));
put("icons.svg", sprite(), packageOf("lucide-static"));
put("mark.svg", text("brand", "mark.svg").trim(), OWN);
licences.add("tailwindcss"); // its base styles are part of app.css

const notices = [...licences].sort().map((name) => {
  const file = ["LICENSE", "LICENSE.md"].find((one) => existsSync(join(modules, name, one)));
  const { version } = packageOf(name);
  return `${name} ${version}\n${"=".repeat(60)}\n\n${readFileSync(join(modules, name, file)).toString().trim()}\n`;
});
writeFileSync(join(target, "licences.txt"), notices.join("\n\n"));

const inputs = ["package.json", "package-lock.json", "build.js", "icons.txt"].concat(
  ["brand", "css", "js"].flatMap((folder) => readdirSync(join(here, folder)).sort().map((file) => `${folder}/${file}`)),
);
const sources = Object.fromEntries(inputs.map((path) => [path, digest(read(path), "sha256", "hex")]));
writeFileSync(join(target, "manifest.json"), JSON.stringify({ files, sources }, null, 1) + "\n");
rmSync(folder, { recursive: true, force: true });
renameSync(target, folder);
