// Everything shown here came from a stranger: it is only ever put into text nodes and attributes that run nothing.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  // Rows of a diagram that are drawn at once.
  const WINDOW = 120;
  const ROW = 36;
  const TOP = 50;
  const TIME = 62;

  const make = (name, attributes = {}, ...children) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
    return element;
  };
  const draw = (name, attributes = {}, text) => {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const short = (text, limit) => (text.length > limit ? text.slice(0, Math.max(1, limit - 1)) + "…" : text);
  const seconds = (millis) => (Number(millis) / 1000).toFixed(3) + " s";
  const pretty = (text) => {
    try {
      return JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      return text;
    }
  };

  // A message of the list: [time or null, from, to, text, mark]; anything shorter is a note.
  const isArrow = (item) => item.length === 5;
  const isWrong = (item) => isArrow(item) && (item[4] === "failing" || item[4] === "missing");

  const told = (data, item) => {
    if (!isArrow(item)) return item[0];
    const [at, from, to, text, mark] = item;
    const when = at === null ? "" : seconds(at) + "  ";
    const wrong = mark === "plain" ? "" : " (" + mark + ")";
    return when + data.lifelines[from] + " → " + data.lifelines[to] + wrong + "  " + text;
  };

  function picture(data, first, last, room, choose) {
    const lifelines = data.lifelines.length;
    const pitch = Math.max(110, Math.min(230, (room - TIME - 240) / Math.max(1, lifelines - 1)));
    const left = TIME + 62;
    const width = Math.max(room - 2, left + (lifelines - 1) * pitch + 240);
    const height = TOP + (last - first) * ROW + 16;
    const x = (lifeline) => left + lifeline * pitch;
    const svg = draw("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    data.lifelines.forEach((name, place) => {
      svg.append(draw("line", { class: "life", x1: x(place), x2: x(place), y1: 34, y2: height - 6 }));
      const half = Math.min(pitch / 2 - 4, 70);
      svg.append(draw("rect", { class: "actor", x: x(place) - half, y: 8, width: 2 * half, height: 26, rx: 5 }));
      const label = draw("text", { class: "name", x: x(place), y: 25 }, short(name, Math.floor(half / 3.6)));
      label.append(draw("title", {}, name));
      svg.append(label);
    });
    for (let place = first; place < last; place++) {
      const item = data.items[place];
      const y = TOP + (place - first) * ROW;
      const group = draw("g", { class: "row " + (isArrow(item) ? item[4] : "note"), "data-row": place });
      group.append(draw("rect", { class: "hit", x: 1, y, width: width - 2, height: ROW }));
      if (!isArrow(item)) {
        group.append(draw("text", { class: "label", x: left + 8, y: y + 22 }, short("(" + item[0] + ")", 90)));
        svg.append(group);
        continue;
      }
      const [at, from, to, text, mark] = item;
      const line = y + 25;
      if (at !== null) group.append(draw("text", { class: "time", x: 8, y: line + 3 }, seconds(at)));
      const [a, b] = [x(from), x(to)];
      if (a === b) {
        group.append(draw("path", { class: "shaft", d: `M${a} ${line - 5} h24 v9 h-18` }));
        group.append(draw("path", { class: "tip", d: `M${a + 2} ${line + 4} l8 -4 v8 z` }));
      } else {
        const way = Math.sign(b - a);
        group.append(draw("line", { class: "shaft", x1: a, x2: b - 3 * way, y1: line, y2: line }));
        group.append(draw("path", { class: "tip", d: `M${b - way} ${line} l${-9 * way} -4.5 v9 z` }));
        if (mark === "missing") {
          const middle = (a + b) / 2;
          group.append(draw("path", { class: "shaft cross", d: `M${middle - 6} ${line - 6} l12 12 m0 -12 l-12 12` }));
        }
      }
      const start = a === b ? a + 30 : Math.min(a, b) + 8;
      const fitting = Math.floor((width - start - 12) / 7);
      const shown = mark === "missing" ? "missing: " + text : text;
      group.append(draw("text", { class: "label", x: start, y: y + 17 }, short(shown.replace(/\s+/g, " "), fitting)));
      if (mark === "failing" || mark === "missing") {
        group.append(draw("text", { class: "flag", x: TIME - 4, y: line + 4 }, "✗"));
      }
      svg.append(group);
    }
    svg.addEventListener("click", (event) => {
      const row = event.target.closest(".row");
      if (row) choose(Number(row.dataset.row));
    });
    return svg;
  }

  function diagram(data) {
    const wrong = data.items.findIndex(isWrong);
    const middle = wrong < 0 ? data.items.length : wrong;
    let first = Math.max(0, Math.min(middle - WINDOW / 2, data.items.length - WINDOW));
    let last = Math.min(data.items.length, first + WINDOW);
    const holder = make("div", {
      class: "diagram",
      tabindex: "0",
      role: "group",
      "aria-label": "Sequence diagram. The arrow keys go through its messages, which are read below it.",
    });
    const chosen = make("div", { class: "chosen-message", "aria-live": "polite" });
    const earlier = make("button", { type: "button", class: "more" });
    const later = make("button", { type: "button", class: "more" });
    let at = -1;
    const mark = () => {
      for (const old of holder.querySelectorAll(".chosen")) old.classList.remove("chosen");
      const row = holder.querySelector(`[data-row="${at}"]`);
      if (row) {
        row.classList.add("chosen");
        row.scrollIntoView({ block: "nearest", inline: "nearest" });
      }
    };
    const choose = (place) => {
      at = Math.max(first, Math.min(last - 1, place));
      const item = data.items[at];
      if (!item) return;
      const head = isArrow(item) ? told(data, [item[0], item[1], item[2], "", item[4]]) : "";
      chosen.replaceChildren(make("p", {}, head), make("pre", {}, isArrow(item) ? pretty(item[3]) : item[0]));
      mark();
    };
    const show = () => {
      holder.replaceChildren(picture(data, first, last, holder.clientWidth || 700, choose));
      earlier.hidden = first === 0;
      earlier.textContent = "Show " + Math.min(first, WINDOW) + " earlier of " + first;
      later.hidden = last === data.items.length;
      later.textContent = "Show " + Math.min(data.items.length - last, WINDOW) + " later of " + (data.items.length - last);
      mark();
    };
    earlier.addEventListener("click", () => {
      first = Math.max(0, first - WINDOW);
      show();
    });
    later.addEventListener("click", () => {
      last = Math.min(data.items.length, last + WINDOW);
      show();
    });
    holder.addEventListener("keydown", (event) => {
      if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
      event.preventDefault();
      const start = at < 0 ? (wrong < 0 ? first : wrong) : at + (event.key === "ArrowDown" ? 1 : -1);
      choose(start);
    });
    return { parts: [earlier, holder, later, chosen], show };
  }

  function difference(finding) {
    if (!finding.rows) {
      const found = finding.actual === "" ? "nothing" : finding.actual;
      return make(
        "table",
        { class: "diff" },
        make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "expected"), make("th", { scope: "col" }, "found"))),
        make("tbody", {}, make("tr", { class: "differs" }, make("td", {}, finding.expected), make("td", {}, found))),
      );
    }
    const body = make("tbody");
    for (const [depth, expected, actual, state] of finding.rows) {
      const indent = "  ".repeat(depth);
      const cell = (text) => make("td", {}, text === "" ? "" : indent + text);
      const row = make("tr", { class: state }, cell(expected), cell(actual));
      if (state !== "same") row.title = state;
      body.append(row);
    }
    return make(
      "table",
      { class: "diff" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "expected"), make("th", { scope: "col" }, "found"))),
      body,
    );
  }

  function toldFinding(finding, data) {
    const id = finding.id ? make("a", { href: "#" + finding.id, class: "id" }, finding.id) : "no requirement";
    const box = make(
      "div",
      { class: "finding " + finding.ruling },
      make(
        "div",
        { class: "head" },
        id,
        finding.level ? make("span", { class: "level" }, finding.level) : "",
        make("span", {}, finding.ruling + (finding.by ? " by " + finding.by : "") + ", says " + finding.judge + ", at " + finding.at),
      ),
    );
    if (finding.text) box.append(make("p", {}, finding.text));
    box.append(make("p", {}, finding.message));
    if (finding.source) box.append(make("pre", {}, data.file + ":" + finding.line + "\n" + finding.source));
    if (finding.ruling !== "noted") box.append(difference(finding));
    return box;
  }

  function messages(data) {
    const list = make("details", {}, make("summary", {}, "All " + data.items.length + " messages as text"));
    list.addEventListener("toggle", () => {
      if (!list.open || list.childElementCount > 1) return;
      const lines = make("ol", { class: "messages" });
      const more = make("button", { type: "button", class: "more" });
      let shown = 0;
      const add = () => {
        for (const item of data.items.slice(shown, shown + 500)) {
          lines.append(make("li", { class: isArrow(item) ? item[4] : "note" }, told(data, item)));
        }
        shown = Math.min(data.items.length, shown + 500);
        more.hidden = shown === data.items.length;
        more.textContent = "Show more: " + (data.items.length - shown) + " are left";
      };
      more.addEventListener("click", add);
      add();
      list.append(make("div", { class: "inside" }, lines, more));
    });
    return list;
  }

  function fill(flow) {
    const inside = flow.querySelector(".inside");
    const source = inside && inside.querySelector("script");
    if (!source) return;
    const data = JSON.parse(source.textContent);
    source.remove();
    if (data.summary) inside.append(make("p", {}, data.summary));
    if (data.reason) inside.append(make("pre", {}, data.reason));
    for (const finding of data.findings) inside.append(toldFinding(finding, data));
    if (data.items.length > 0) {
      const { parts, show } = diagram(data);
      inside.append(make("h5", {}, "What was said"), ...parts, messages(data));
      show();
    }
    inside.append(make("h5", {}, "Once more"), make("pre", {}, data.again));
    const line = make("p", {}, make("a", { href: "#" + encodeURIComponent(flow.id) }, "Link to this flow"), " · " + data.file);
    if (data.transcript) {
      line.append(" · ", make("a", { href: "transcripts/" + encodeURIComponent(data.transcript) }, "transcript"));
    }
    inside.append(line);
  }

  const flows = [...document.querySelectorAll("details.flow")];
  const requirements = [...document.querySelectorAll("details.requirement")];
  for (const flow of flows) {
    flow.addEventListener("toggle", () => {
      if (flow.open) fill(flow);
    });
  }

  // Search and filters.
  const search = document.getElementById("search");
  const protocol = document.getElementById("protocol");
  const shown = document.getElementById("shown");
  const buttons = [...document.querySelectorAll(".filters button")];
  const words = new Map();
  for (const entry of [...flows, ...requirements]) {
    const head = entry.querySelector("summary").textContent;
    words.set(entry, (entry.id + " " + head + " " + (entry.dataset.more || "")).toLowerCase());
  }
  const off = (kind) =>
    new Set(buttons.filter((one) => one.dataset[kind] && one.getAttribute("aria-pressed") === "false").map((one) => one.dataset[kind]));

  function filter() {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const only = protocol ? protocol.value : "";
    const fits = (entry, hidden) =>
      !hidden.has(entry.dataset.state) &&
      (only === "" || entry.dataset.protocol === only) &&
      wanted.every((word) => words.get(entry).includes(word));
    const count = (entries, hidden) => {
      let seen = 0;
      for (const entry of entries) {
        entry.hidden = !fits(entry, hidden);
        if (!entry.hidden) seen += 1;
      }
      return seen;
    };
    const kept = count(requirements, off("filterRequirement"));
    const ran = count(flows, off("filterFlow"));
    for (const topic of document.querySelectorAll(".topic")) {
      topic.hidden = !topic.querySelector("details:not([hidden])");
    }
    for (const part of document.querySelectorAll(".matrix, h3.protocol")) {
      part.hidden = only !== "" && part.dataset.protocol !== only;
    }
    for (const chip of document.querySelectorAll(".chip")) {
      const entry = document.getElementById(chip.getAttribute("href").slice(1));
      chip.hidden = !entry || entry.hidden;
    }
    for (const row of document.querySelectorAll(".matrix tr")) row.hidden = !row.querySelector(".chip:not([hidden])");
    shown.textContent = `${kept} of ${requirements.length} requirements, ${ran} of ${flows.length} flows`;
  }

  function reset() {
    search.value = "";
    if (protocol) protocol.value = "";
    for (const button of buttons) button.setAttribute("aria-pressed", "true");
    filter();
  }

  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 60);
  });
  if (protocol) protocol.addEventListener("change", filter);
  document.getElementById("reset").addEventListener("click", reset);
  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") === "true" ? "false" : "true");
      filter();
    });
  }
  document.querySelector("form.tools").addEventListener("submit", (event) => event.preventDefault());
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      search.focus();
    }
  });
  for (const part of document.querySelectorAll("form.tools, .filters")) part.hidden = false;
  filter();

  // A shared link opens what it names, whatever the filters say.
  function follow() {
    let name = location.hash.slice(1);
    try {
      name = decodeURIComponent(name);
    } catch {
      return;
    }
    const entry = name && document.getElementById(name);
    if (!entry || entry.tagName !== "DETAILS") return;
    if (entry.hidden) reset();
    for (const old of document.querySelectorAll("details.shown")) old.classList.remove("shown");
    entry.classList.add("shown");
    entry.open = true;
    if (entry.classList.contains("flow")) fill(entry);
    entry.scrollIntoView({ block: "start" });
    entry.querySelector("summary").focus({ preventScroll: true });
  }
  window.addEventListener("hashchange", follow);
  document.addEventListener("click", (event) => {
    const link = event.target instanceof Element && event.target.closest("a[href^='#']");
    // The same link a second time changes nothing in the address.
    if (link && link.getAttribute("href") === location.hash) follow();
  });
  follow();
})();
