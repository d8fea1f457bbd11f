// Finds the handler: `folder/file.export.member`, as CommonJS or as a module, the way AWS's runtime looks for it.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { RuntimeError } from "./errors.mjs";

export async function loadHandler(root, text) {
  if (text.includes("..")) throw new RuntimeError("Runtime.MalformedHandlerName", `'${text}' is not a valid handler name`);
  const folder = path.dirname(text);
  const match = /^([^.]*)\.(.*)$/.exec(path.basename(text));
  if (!match) throw new RuntimeError("Runtime.MalformedHandlerName", "Bad handler");
  const [, file, members] = match;
  const module = await loadModule(path.resolve(root, folder), file, root);
  let found = module;
  for (const member of members.split(".")) found = found?.[member];
  if (found === undefined && module.default) {
    found = module.default;
    for (const member of members.split(".")) found = found?.[member];
  }
  if (found === undefined) throw new RuntimeError("Runtime.HandlerNotFound", `${text} is undefined or not exported`);
  if (typeof found !== "function") throw new RuntimeError("Runtime.HandlerNotFound", `${text} is not a function`);
  return found;
}

async function loadModule(folder, file, root) {
  try {
    const base = path.join(folder, file);
    const require = createRequire(path.join(root, "_"));
    if (fs.existsSync(`${base}.js`)) return isModule(folder, root) ? imported(`${base}.js`) : required(require, `${base}.js`);
    if (fs.existsSync(`${base}.mjs`)) return await imported(`${base}.mjs`);
    if (fs.existsSync(`${base}.cjs`)) return required(require, `${base}.cjs`);
    if (fs.existsSync(base) && fs.statSync(base).isFile()) return required(require, base);
    return required(require, require.resolve(file, { paths: [root, folder] }));
  } catch (error) {
    if (error instanceof SyntaxError) throw named("Runtime.UserCodeSyntaxError", error);
    const code = error?.code;
    if (code === "MODULE_NOT_FOUND" || code === "ERR_MODULE_NOT_FOUND") throw named("Runtime.ImportModuleError", error);
    throw error;
  }
}

const imported = (file) => import(pathToFileURL(file).href);
const required = (require, file) => require(file);

function named(name, error) {
  const made = new RuntimeError(name, String(error));
  made.stack = `${name}: ${error}\n${String(error.stack ?? "").split("\n").slice(1).join("\n")}`;
  return made;
}

// Whether the nearest package.json says that .js files are modules.
function isModule(folder, root) {
  for (let place = folder; ; place = path.dirname(place)) {
    const file = path.join(place, "package.json");
    if (fs.existsSync(file)) {
      try {
        return JSON.parse(fs.readFileSync(file, "utf8")).type === "module";
      } catch {
        return false;
      }
    }
    if (place === root || place === path.dirname(place)) return false;
  }
}
