// Runs axe on pages in headless Chromium: at two widths, in the light and in the dark.
// node accessibility.mjs CHROMIUM FOLDER PAGE ...; FOLDER holds node_modules. One line of JSON for each run.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [chromium, folder, ...pages] = process.argv.slice(2);
const require = createRequire(`${folder}/package.json`);
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// Every rule that axe knows, also those that are off by default; AAA asks for more than the page promises.
const everyRule = () => {
  const known = axe.getRules().filter((rule) => !rule.tags.includes("wcag2aaa"));
  return axe.run(document, { rules: Object.fromEntries(known.map((rule) => [rule.ruleId, { enabled: true }])) });
};

const browser = await puppeteer.launch({ executablePath: chromium, args: ["--no-sandbox"] });
for (const path of pages) {
  for (const width of [1280, 390]) {
    for (const scheme of ["light", "dark"]) {
      const page = await browser.newPage();
      await page.setViewport({ width, height: 900 });
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
      await page.goto(pathToFileURL(path));
      await page.evaluate(axe);
      const { violations, incomplete, passes } = await page.evaluate(`(${everyRule})()`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth);
      const told = (rules) => rules.map(({ id, help, nodes }) => ({ id, help, at: nodes.map((n) => n.target.join(" ")) }));
      const found = { path, width, scheme, wide, passed: passes.length };
      console.log(JSON.stringify({ ...found, violations: told(violations), unsure: told(incomplete) }));
      await page.close();
    }
  }
}
await browser.close();
