// What runs in the browser: the component that shows the document.
import Component from "@asyncapi/react-component/lib/esm/without-parser.js";
import { createElement } from "react";
import { createRoot } from "react-dom/client";

// A part refers to those before it (render.mjs: pooled).
const pool = JSON.parse(document.getElementById("document").textContent);
const whole = (value) => {
  if (value === null || typeof value !== "object") return value;
  if ("$pooled" in value) return pool[value.$pooled];
  if (Array.isArray(value)) return value.map(whole);
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, whole(each)]));
};
for (const [place, part] of pool.entries()) pool[place] = whole(part);
const props = JSON.parse(JSON.stringify(pool.at(-1))); // a tree again, which the component takes it for
createRoot(document.getElementById("root")).render(createElement(Component, props));
