import { el } from "./dom.ts";
import { blocks } from "./markdown.ts";
import type { Block, Run } from "./markdown.ts";

/** Which part of the text is being heard, and from where on nobody heard it (UTF-16 units). */
export interface Marks {
  heard: [from: number, to: number] | null;
  keptTo: number | null;
}

/** The text of an answer as elements; only blocks that changed are made anew. */
export class Prose {
  readonly element = el("div", { class: "prose", dir: "auto" });
  private keys: string[] = [];

  show(text: string, marks: Marks): void {
    const found = blocks(text);
    const keys = found.map((block) => keyOf(block, text, marks));
    found.forEach((block, at) => {
      if (this.keys[at] === keys[at]) return;
      const made = build(block, text, marks);
      const old = this.element.children[at];
      if (old) old.replaceWith(made);
      else this.element.append(made);
    });
    while (this.element.children.length > found.length) this.element.lastElementChild?.remove();
    this.keys = keys;
  }
}

function keyOf({ kind, from, to }: Block, text: string, { heard, keptTo }: Marks): string {
  const within = (at: number): number => Math.min(Math.max(at, from), to) - from;
  const marked = heard && heard[1] > from && heard[0] < to ? heard.map(within).join("-") : "";
  const kept = keptTo === null ? "" : within(keptTo);
  return `${kind}|${from}|${marked}|${kept}|${text.slice(from, to)}`;
}

function build(block: Block, text: string, marks: Marks): HTMLElement {
  const words = (runs: Run[]): Node[] => runs.flatMap((run) => pieces(run, text, marks));
  switch (block.kind) {
    case "paragraph":
      return el("p", {}, ...words(block.runs));
    case "quote":
      return el("blockquote", {}, ...words(block.runs));
    case "code":
      return el("pre", { tabindex: "0" }, ...words(block.runs));
    case "heading":
      // The page's own title is the only first-level heading.
      return el(block.level <= 2 ? "h3" : "h4", {}, ...words(block.runs));
    case "rule":
      return el("hr");
    case "list": {
      const list = block.ordered ? el("ol", { start: String(block.start) }) : el("ul");
      for (const item of block.items) {
        list.append(el("li", item.level ? { class: `level-${item.level}` } : {}, ...words(item.runs)));
      }
      return list;
    }
  }
}

/** A run, cut where a mark begins or ends. */
function pieces(run: Run, text: string, { heard, keptTo }: Marks): Node[] {
  const cuts = [run.from, run.to, ...(heard ?? []), ...(keptTo === null ? [] : [keptTo])]
    .filter((at) => at >= run.from && at <= run.to)
    .sort((a, b) => a - b);
  const nodes: Node[] = [];
  cuts.slice(1).forEach((to, at) => {
    const from = cuts[at] as number;
    if (to === from) return;
    let node: Node = styled(run, text.slice(from, to));
    if (keptTo !== null && from >= keptTo) node = el("span", { class: "unheard" }, node);
    if (heard && from >= heard[0] && to <= heard[1]) node = el("mark", {}, node);
    nodes.push(node);
  });
  return nodes;
}

function styled(run: Run, words: string): Node {
  let node: Node = document.createTextNode(words);
  if (run.code) node = el("code", {}, node);
  if (run.em) node = el("em", {}, node);
  if (run.strong) node = el("strong", {}, node);
  if (run.href) {
    const attributes = { href: run.href, target: "_blank", rel: "noopener noreferrer" };
    node = el("a", attributes, node);
  }
  return node;
}
