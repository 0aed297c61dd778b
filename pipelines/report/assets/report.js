"use strict";
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const GLYPHS = { circle: "●", "circle-open": "○", square: "■", diamond: "◆", "triangle-up": "▲", cross: "✚", star: "★", x: "✖", "triangle-down": "▼", pentagon: "⬟" };
  const drawn = new Map();
  // Redrawn, not only stretched: a narrow chart has a smaller font and fewer ticks.
  const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => {
    if (drawn.has(target) && target.clientWidth && String(target.clientWidth) !== target.dataset.width) draw(target, drawn.get(target));
  }));

  // An element with text only: nothing that a model or a file said ever becomes markup.
  function el(tag, className, text) {
    const node = document.createElement(tag);
    if (className) node.className = className;
    if (text !== undefined && text !== null) node.textContent = text;
    return node;
  }

  // --- charts ---------------------------------------------------------------------------------------------------
  function colour(value) {
    const name = /^var\((--[\w-]+)\)$/.exec(value);
    return name ? getComputedStyle(document.documentElement).getPropertyValue(name[1]).trim() : value;
  }

  function resolved(value) {
    if (typeof value === "string") return colour(value);
    if (Array.isArray(value)) return value.map(resolved);
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, resolved(v)]));
    return value;
  }

  function axis(own, narrow) {
    const line = colour("var(--rule)");
    const title = own && own.title ? { ...own.title, font: { size: 12.5 }, standoff: 8 } : undefined;
    return { gridcolor: line, zerolinecolor: line, linecolor: line, automargin: true, nticks: narrow ? 5 : 9, ...own, title, fixedrange: narrow };
  }

  function draw(node, spec) {
    if (!drawn.has(node)) resized.observe(node);
    drawn.set(node, spec);
    node.dataset.width = node.clientWidth;
    if (node.id && spec.rows) node.style.height = `${110 + 34 * spec.rows}px`;
    const narrow = node.clientWidth < 480;
    const font = { family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 12.5, color: colour("var(--ink)") };
    const base = resolved(spec.layout);
    const layout = {
      ...base, font, showlegend: false, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest",
      margin: { l: 10, r: 16, t: 14, b: 10 }, xaxis: axis(base.xaxis, narrow), yaxis: axis(base.yaxis, narrow),
      hoverlabel: { bgcolor: colour("var(--card)"), bordercolor: colour("var(--rule)"), font: { color: colour("var(--ink)") } },
    };
    const hidden = node.dataset.hidden ? JSON.parse(node.dataset.hidden) : [];
    const traces = resolved(spec.data).map((t) => ({ ...t, visible: !hidden.includes(t.legendgroup) }));
    Plotly.react(node, traces, layout, { displayModeBar: false });
  }

  // One legend for all charts of a group: it wraps on a narrow screen, which plotly's own does not.
  function legend(box, nodes) {
    const seen = new Map();
    nodes.forEach((node) => drawn.has(node) && drawn.get(node).data.forEach((t) => {
      if (t.showlegend !== false && t.name && !seen.has(t.legendgroup)) seen.set(t.legendgroup, t);
    }));
    box.replaceChildren();
    nodes.forEach((node) => delete node.dataset.hidden);
    if (seen.size < 2) return;
    seen.forEach((t, group) => {
      const button = el("button");
      button.type = "button";
      const dash = t.line && t.line.dash === "dash";
      const glyph = el("span", "", (dash ? "╌ " : t.mode === "markers" ? (GLYPHS[t.marker.symbol] || "●") + " " : "━ "));
      glyph.style.color = ((t.mode === "markers" ? t.marker : t.line) || {}).color || "var(--ink)";
      glyph.setAttribute("aria-hidden", "true");
      // Names come escaped for plotly, which reads tags: here they are text.
      const name = el("bdi", "", t.name.replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&"));
      button.append(glyph, name);
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") === "true";
        button.setAttribute("aria-pressed", String(!shown));
        nodes.forEach((node) => {
          if (!drawn.has(node)) return;
          const hidden = new Set(node.dataset.hidden ? JSON.parse(node.dataset.hidden) : []);
          shown ? hidden.add(group) : hidden.delete(group);
          node.dataset.hidden = JSON.stringify([...hidden]);
          draw(node, drawn.get(node));
        });
      });
      box.append(button);
    });
  }

  function group(box) {
    const nodes = [...box.querySelectorAll(".chart[data-chart]")];
    nodes.forEach((node) => draw(node, data.charts[node.dataset.chart]));
    const place = box.querySelector(".legend");
    if (place) legend(place, nodes);
  }

  // --- tables ---------------------------------------------------------------------------------------------------
  function sortable(table) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
      const numeric = head.classList.contains("n");
      const before = head.getAttribute("aria-sort");
      const direction = before ? (before === "ascending" ? "descending" : "ascending") : numeric ? "descending" : "ascending";
      const sign = direction === "ascending" ? 1 : -1;
      const key = (row) => (numeric ? Number(row.cells[column].dataset.v ?? "-Infinity") : row.cells[column].textContent);
      const compare = (a, b) => (numeric ? (a === b ? 0 : a < b ? -1 : 1) : a.localeCompare(b, "en", { numeric: true }));
      const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
      rows.sort((a, b) => sign * compare(a[0], b[0]));
      table.tBodies[0].append(...rows.map((r) => r[1]));
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction);
    }));
  }

  // --- one setting --------------------------------------------------------------------------------------------
  function options(select, names, kept) {
    select.replaceChildren(...names.map((name, i) => {
      const option = el("option", "", name);
      option.value = String(i);
      return option;
    }));
    const at = names.indexOf(kept);
    if (at >= 0) select.value = String(at);
  }

  function setting() {
    const [row, measure, scale] = ["row", "measure", "axis"].map((name) => document.getElementById(`pick-${name}`));
    if (!row) return;
    options(row, data.details.map((d) => d.name));
    const show = () => {
      const detail = data.details[Number(row.value)];
      const before = measure.selectedOptions[0] ? measure.selectedOptions[0].textContent : undefined;
      options(measure, detail.measures.map((m) => m.name), before);
      const chosen = detail.measures[Number(measure.value || 0)];
      [["confidence", chosen ? chosen[scale.value] : null], ["auroc", detail.auroc], ["share-right", detail.right], ["share-wrong", detail.wrong]]
        .forEach(([name, spec]) => {
          const node = document.getElementById(`detail-${name}`);
          node.closest("figure").hidden = !spec;
          delete node.dataset.hidden;
          if (spec) draw(node, spec); else drawn.delete(node);
        });
      [["confidence"], ["share-right", "share-wrong"]].forEach((names) => {
        const nodes = names.map((name) => document.getElementById(`detail-${name}`));
        legend(document.getElementById(`legend-${names[0]}`), nodes);
      });
      document.getElementById("part-share").hidden = !detail.right && !detail.wrong;
      document.getElementById("part-auroc-none").hidden = Boolean(detail.auroc);
    };
    [row, measure, scale].forEach((select) => select.addEventListener("change", show));
    const start = data.details.findIndex((d) => d.right && d.wrong);
    row.value = String(Math.max(start, 0));
    show();
  }

  // --- traces ---------------------------------------------------------------------------------------------------
  function said(text) {
    const node = el("bdi", "said", text.head.replace(/\s+$/, "") || "(empty)");
    node.dir = "auto";
    if (text.more) node.append(el("span", "muted", ` … ${text.more.toLocaleString("en")} characters more`));
    return node;
  }

  function short(value) {
    return value === null || value === undefined ? null : String(Number(value.toPrecision(4)));
  }

  const NEXT = { small: "small writes next", large: "large writes next", rewrite: "discarded, large writes it again", end: "end" };

  function step(s) {
    if (s.more) return el("li", "muted", `${s.more} steps more`);
    const item = el("li", `${s.model === "large" ? "large" : "small"}${s.kept ? "" : " dropped"}`);
    const head = el("div", "stephead");
    const who = el("b", s.model === "large" ? "large" : "small", `${s.step}. ${s.model}${s.kept ? "" : " (discarded draft)"}`);
    head.append(who);
    const facts = [
      ["confidence", short(s.confidence)], ["posterior", s.posterior > 0 && s.posterior < 0.001 ? "below 0.001" : short(s.posterior)], ["signal", short(s.signal)],
      ["tokens", s.tokens], ["then", NEXT[s.decision] || s.decision], ["on", s.replica],
      ["finish", s.finish === "step" || s.finish === "end" ? null : s.finish],
    ];
    facts.filter((f) => f[1] !== null && f[1] !== "").forEach((f) => head.append(el("span", "", `${f[0]} ${f[1]}`)));
    if (s.scores.length) head.title = s.scores.map((x) => `${x[0]}: ${short(x[1])}`).join("\n");
    item.append(head, said(s.text));
    return item;
  }

  function traces() {
    const [cell, which] = ["cell", "trace"].map((name) => document.getElementById(`pick-${name}`));
    if (!cell) return;
    const several = new Set(data.traces.map((t) => t.run)).size > 1;
    const label = (t) => (several ? `${t.run} · ` : "") + t.row;
    const cells = [...new Set(data.traces.map(label))];
    options(cell, cells);
    let mine = [];
    const fill = () => {
      mine = data.traces.filter((t) => label(t) === cells[Number(cell.value)]);
      options(which, mine.map((t) => `${t.trace_id} (${t.correct ? "right" : "wrong"})`));
      show();
    };
    const turn = (by) => {
      const all = data.traces, at = all.indexOf(mine[Number(which.value)]) + by;
      if (at < 0 || at >= all.length) return;
      if (label(all[at]) !== cells[Number(cell.value)]) { cell.value = String(cells.indexOf(label(all[at]))); fill(); }
      which.value = String(mine.indexOf(all[at]));
      show();
    };
    const show = () => {
      const t = mine[Number(which.value)], at = data.traces.indexOf(t);
      const facts = el("dl", "facts");
      const fact = (name, node) => { const value = el("dd"); value.append(node); facts.append(el("dt", "", name), value); };
      const verdict = el("span", `verdict ${t.correct ? "yes" : "no"}`, t.correct ? "✓ right" : "✗ wrong");
      const line = el("span");
      line.append(verdict, el("span", "muted", ` · rule ${t.rule || "–"} · ${t.status}${t.grader ? ` · graded as ${t.grader}` : ""}`));
      fact("question", said(t.prompt));
      if (t.difficulty) fact("difficulty", el("bdi", "", t.difficulty));
      fact("gold", said(t.gold));
      fact("extracted answer", said(t.extracted));
      fact("verdict", line);
      if (t.error.head) fact("error", said(t.error));
      fact("tokens", el("span", "", `small ${t.tokens_small}, large ${t.tokens_large}, of both discarded ${t.tokens_discarded}`));
      const steps = el("ol", "steps");
      t.steps.forEach((s) => steps.append(step(s)));
      document.getElementById("trace").replaceChildren(facts, steps);
      document.getElementById("trace-place").textContent = `${at + 1} of ${data.traces.length}`;
      document.getElementById("trace-before").disabled = at === 0;
      document.getElementById("trace-after").disabled = at === data.traces.length - 1;
    };
    cell.addEventListener("change", fill);
    which.addEventListener("change", show);
    document.getElementById("trace-before").addEventListener("click", () => turn(-1));
    document.getElementById("trace-after").addEventListener("click", () => turn(1));
    fill();
    const mixed = data.traces.findIndex((t) => t.steps.some((s) => s.kept === false));
    if (mixed > 0) turn(mixed - data.traces.indexOf(mine[0]));
  }

  document.querySelectorAll("table.sortable").forEach(sortable);
  document.querySelectorAll(".chartgroup").forEach(group);
  setting();
  traces();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn.forEach((spec, node) => draw(node, spec)));
})();
