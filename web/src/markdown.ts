/**
 * Where the Markdown of an answer stands in its text: what is shown is a range of the source.
 *
 * Only what answers use: paragraphs, headings, lists, quotes, code, emphasis, links. What is not
 * understood is shown as it is.
 */
export interface Run {
  from: number;
  to: number;
  strong?: boolean;
  em?: boolean;
  code?: boolean;
  href?: string;
}

export interface Item {
  level: number;
  runs: Run[];
}

export type Block = { from: number; to: number } & (
  | { kind: "paragraph" | "quote" | "code"; runs: Run[] }
  | { kind: "heading"; level: number; runs: Run[] }
  | { kind: "list"; ordered: boolean; start: number; items: Item[] }
  | { kind: "rule" }
);

type Style = Omit<Run, "from" | "to">;

const FENCE = /^ {0,3}(```|~~~)/;
const HEADING = /^ {0,3}(#{1,6})\s+/;
const ITEM = /^(\s*)(?:[-*+]|(\d{1,9})[.)])\s+/;
const QUOTE = /^ {0,3}>\s?/;
const RULE = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const INLINE =
  /(`+)(?!`)([^\n]*?[^`\n])\1(?!`)|(\*\*|__)(?=\S)([^\n]+?)(?<=\S)\3|(?<![\w*])(\*|_)(?=[^\s*_])([^\n*_]+?)(?<=\S)\5(?![\w*])|\[([^\]\n]+)\]\((https?:\/\/[^\s)]+)\)|(https?:\/\/[^\s<>()]+[^\s<>().,;:!?'"])/g;

export function blocks(text: string): Block[] {
  const found: Block[] = [];
  let at = 0;
  let fence = false;
  for (const line of text.split("\n")) {
    const from = at;
    const to = at + line.length;
    at = to + 1;
    const last = found.at(-1);
    if (fence && last?.kind === "code") {
      if (FENCE.test(line)) fence = false;
      else extendCode(last, from, to);
      last.to = to;
    } else if (FENCE.test(line)) {
      fence = true;
      found.push({ kind: "code", from, to, runs: [] });
    } else {
      addLine(found, text, line, from, to);
    }
  }
  return found.filter((block) => block.kind !== "paragraph" || block.runs.length > 0);
}

function extendCode(block: Block & { runs: Run[] }, from: number, to: number): void {
  const run = block.runs[0];
  if (run) run.to = to;
  else block.runs.push({ from, to, code: true });
}

function addLine(found: Block[], text: string, line: string, from: number, to: number): void {
  const last = found.at(-1);
  let match: RegExpExecArray | null;
  if (RULE.test(line)) {
    found.push({ kind: "rule", from, to });
  } else if ((match = HEADING.exec(line))) {
    const runs = inline(text, from + match[0].length, to);
    found.push({ kind: "heading", level: (match[1] as string).length, from, to, runs });
  } else if ((match = ITEM.exec(line))) {
    const ordered = match[2] !== undefined;
    const level = Math.min(Math.floor((match[1] as string).length / 2), 4);
    const item = { level, runs: inline(text, from + match[0].length, to) };
    if (last?.kind === "list" && (level > 0 || last.ordered === ordered)) {
      last.items.push(item);
      last.to = to;
    } else {
      const start = Number(match[2] ?? 1);
      found.push({ kind: "list", ordered, start, from, to, items: [item] });
    }
  } else if (line.trim() === "") {
    // An empty paragraph ends what stands before it, but items may be far apart.
    if (last?.kind !== "list") found.push({ kind: "paragraph", from, to, runs: [] });
  } else {
    const quoted = QUOTE.exec(line);
    const kind = quoted ? "quote" : "paragraph";
    const begin = from + (quoted ? quoted[0].length : 0);
    const goesOn = last?.kind === kind && last.runs.length > 0;
    if (goesOn) {
      last.runs.push({ from: from - 1, to: from }, ...inline(text, begin, to));
      last.to = to;
    } else {
      found.push({ kind, from, to, runs: inline(text, begin, to) });
    }
  }
}

function inline(text: string, from: number, to: number, style: Style = {}): Run[] {
  const runs: Run[] = [];
  const part = text.slice(from, to);
  let at = 0;
  const plain = (end: number): void => {
    if (end > at) runs.push({ ...style, from: from + at, to: from + end });
  };
  for (const match of part.matchAll(INLINE)) {
    const [whole, ticks, code, stars, strong, star, em, label, href, url] = match;
    const begin = match.index;
    plain(begin);
    at = begin + whole.length;
    const inside = (mark: number, length: number, more: Style): Run[] => {
      const start = from + begin + mark;
      return inline(text, start, start + length, { ...style, ...more });
    };
    if (code !== undefined) {
      const start = from + begin + (ticks as string).length;
      runs.push({ ...style, code: true, from: start, to: start + code.length });
    } else if (strong !== undefined) {
      runs.push(...inside((stars as string).length, strong.length, { strong: true }));
    } else if (em !== undefined) {
      runs.push(...inside((star as string).length, em.length, { em: true }));
    } else if (href !== undefined) {
      runs.push({ ...style, href, from: from + begin + 1, to: from + begin + 1 + (label as string).length });
    } else {
      runs.push({ ...style, href: url as string, from: from + begin, to: from + at });
    }
  }
  plain(part.length);
  return runs;
}
