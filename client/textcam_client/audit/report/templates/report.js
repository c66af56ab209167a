"use strict";
// The page's only script. It builds every node by the DOM, never from text as HTML: names of files,
// classes and phrases come from outside.
(() => {
  const root = document.documentElement;
  root.classList.add("js");

  // ---- nodes -------------------------------------------------------------------------------

  const SVG = "http://www.w3.org/2000/svg";

  function fill(made, attributes, children) {
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (typeof value === "function") made.addEventListener(name, value);
      else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
    }
    made.append(...children.flat().filter((child) => child !== null && child !== ""));
    return made;
  }

  const node = (tag, attributes, ...children) =>
    fill(document.createElement(tag), attributes, children);
  const drawn = (tag, attributes, ...children) =>
    fill(document.createElementNS(SVG, tag), attributes, children);
  const byId = (id) => document.getElementById(id);

  // ---- numbers in words --------------------------------------------------------------------

  const usable = (value) => value !== null && Number.isFinite(value);
  function fixed(value, digits) {
    const text = value.toFixed(digits);
    return Number(text) === 0 ? text.replace("-", "") : text.replace("-", "−");
  }

  const plain = (value) => (usable(value) ? fixed(value, 2) : "–");
  const signed = (value) => (usable(value) && Number(value.toFixed(2)) > 0 ? "+" : "") + plain(value);
  const percent = (value) => (usable(value) ? `${fixed(100 * value, 1)}\u00a0%` : "–");
  const count = (value) => value.toLocaleString("en-US");

  function ends(estimate, written) {
    const [, low, high, note] = estimate;
    return usable(low) && usable(high) ? `${written(low)} to ${written(high)}` : note || "no interval";
  }

  // ---- data --------------------------------------------------------------------------------

  const TYPES = { Uint8Array, Int16Array, Int32Array, Float32Array };
  const STATES = ["unlabelled", "right", "wrong", "failed", "unknown label"];
  const [UNLABELLED, RIGHT, WRONG, FAILED, UNKNOWN] = STATES.keys();
  const BLOCK = 256;

  async function inflated(id) {
    const letters = atob(byId(id).textContent);
    const bytes = new Uint8Array(letters.length);
    for (let at = 0; at < letters.length; at++) bytes[at] = letters.charCodeAt(at);
    byId(id).remove();
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).arrayBuffer();
  }

  async function load() {
    if (typeof DecompressionStream === "undefined")
      throw new Error("This browser is too old for the image list: it has no DecompressionStream.");
    const tables = JSON.parse(new TextDecoder().decode(await inflated("data-tables")));
    const buffer = await inflated("data-columns");
    return new Audit(tables, buffer);
  }

  class Audit {
    constructor(tables, buffer) {
      Object.assign(this, tables);
      this.count = tables.names.length;
      this.buffer = buffer;
      this.made = new Map();
      this.folded = tables.names.map((name) => name.toLowerCase());
      this.places = new Map(tables.names.map((name, place) => [name, place]));
      this.conceptNumbers = new Map(tables.concepts.map((text, number) => [text, number]));
    }

    column(name) {
      if (!this.made.has(name)) {
        const { type, offset, length, scale } = this.columns[name];
        const stored = new TYPES[type](this.buffer, offset, length);
        this.made.set(name, type === "Int16Array" ? scaled(stored, scale) : stored);
      }
      return this.made.get(name);
    }

    span(name, place) {
      const starts = this.column(name);
      return [starts[place], starts[place + 1]];
    }

    className(index) {
      return this.class_names[index] ?? `class ${index}`;
    }

    label(place) {
      const number = this.column("label")[place];
      return number < 0 ? null : this.labels[number];
    }

    // The most probable class of every row, -1 where there is none, and its probability.
    get first() {
      return (this.firstMade ??= this.makeFirst());
    }

    makeFirst() {
      const starts = this.column("predictions");
      const [classes, probabilities] = [this.column("predicted_class"), this.column("predicted_probability")];
      const first = { classes: new Int32Array(this.count).fill(-1), probabilities: new Float32Array(this.count).fill(NaN) };
      for (let place = 0; place < this.count; place++) {
        if (starts[place] === starts[place + 1]) continue;
        first.classes[place] = classes[starts[place]];
        first.probabilities[place] = probabilities[starts[place]];
      }
      return first;
    }

    // Numbers that fall from the first name to the last.
    get nameKey() {
      return (this.nameKeyMade ??= this.makeNameKey());
    }

    makeNameKey() {
      const order = range(0, this.count).sort((one, two) => (this.names[one] < this.names[two] ? -1 : 1));
      const key = new Float32Array(this.count);
      order.forEach((place, at) => { key[place] = -at; });
      return key;
    }

    predicted(place) {
      return this.first.classes[place];
    }

    predictions(place) {
      const [start, end] = this.span("predictions", place);
      return range(start, end).map((at) => [
        this.column("predicted_class")[at],
        this.column("predicted_probability")[at],
      ]);
    }

    phrases(place) {
      const [start, end] = this.span("phrases", place);
      return range(start, end).map((at) => ({
        text: this.concepts[this.column("phrase")[at]],
        evidence: this.column("phrase_evidence")[at],
        probability: this.column("phrase_probability")[at],
      }));
    }

    // The explained logit of a row and its parts; null where there is none.
    parts(place, kind) {
      const logit = this.column(`${kind}_logit`)[place];
      if (!Number.isFinite(logit)) return null;
      const [start, end] = this.span(`${kind}_concepts`, place);
      const concepts = range(start, end).map((at) => ({
        concept: this.column(`${kind}_concept`)[at],
        value: this.column(`${kind}_evidence`)[at],
      }));
      const bias = this.column(`${kind}_bias`)[place];
      const rest = concepts.reduce((left, own) => left - own.value, logit - bias);
      return {
        logit, bias, rest, concepts,
        target: this.column(`${kind}_class`)[place],
        reference: this.column(`${kind}_reference`)[place],
      };
    }

    // Evidence of one concept in every row; 0 where it is not among the kept ones.
    evidence(concept) {
      const values = new Float32Array(this.count);
      const starts = this.column("target_concepts");
      const concepts = this.column("target_concept");
      const evidence = this.column("target_evidence");
      for (let place = 0; place < this.count; place++)
        for (let at = starts[place]; at < starts[place + 1]; at++)
          if (concepts[at] === concept) values[place] = evidence[at];
      return values;
    }

    maps(place) {
      const [start, end] = this.span("maps", place);
      return range(start, end).map((at) => {
        const [from, to] = this.span("map_cells", at);
        return {
          concept: this.column("map_concept")[at],
          height: this.column("map_height")[at],
          width: this.column("map_width")[at],
          peak: this.column("map_peak")[at],
          cells: this.column("map_cell").subarray(from, to),
        };
      });
    }
  }

  // Numbers from 16-bit steps; -32768 stands for none.
  function scaled(steps, scale) {
    const values = new Float32Array(steps.length);
    for (let at = 0; at < steps.length; at++) values[at] = steps[at] === -32768 ? NaN : steps[at] * scale;
    return values;
  }

  const range = (start, end) => Array.from({ length: end - start }, (_, at) => start + at);

  // ---- thumbnails --------------------------------------------------------------------------

  const blocks = new Map();

  function thumbnailUrl(place) {
    const number = Math.floor(place / BLOCK);
    if (!blocks.has(number)) blocks.set(number, byId(`thumbs-${number}`)?.textContent.split("\n") ?? []);
    const text = blocks.get(number)[place % BLOCK]?.trim();
    return text ? `data:image/webp;base64,${text}` : "";
  }

  function picture(audit, place, side) {
    const url = thumbnailUrl(place);
    if (!url) return node("span", { class: "no-thumb" }, "no picture");
    return node("img", { src: url, width: side, height: side, alt: "", decoding: "async" });
  }

  function caption(audit, place) {
    const predicted = audit.predicted(place);
    const words = [audit.label(place) ?? "no label"];
    if (predicted >= 0) words.push(`predicted ${audit.className(predicted)}`);
    words.push(STATES[audit.column("state")[place]]);
    return words.join(", ");
  }

  const imageHash = (audit, place) => `#image/${encodeURIComponent(audit.names[place])}`;

  function tile(audit, place, note) {
    const state = STATES[audit.column("state")[place]].replace(" ", "-");
    return node("a", {
      class: `tile ${state}`, href: imageHash(audit, place), title: audit.names[place],
      "aria-label": `${audit.names[place]}: ${caption(audit, place)}${note ? `, ${note}` : ""}`,
    },
      picture(audit, place, 96),
      node("span", { class: "tile-name" }, audit.names[place].split("/").pop()),
      node("span", { class: "tile-note" }, note || tileNote(audit, place)),
    );
  }

  function tileNote(audit, place) {
    const state = audit.column("state")[place];
    if (state === FAILED) return "failed";
    const predicted = audit.className(audit.predicted(place));
    return state === WRONG ? `${audit.label(place)} → ${predicted}` : predicted;
  }

  // ---- drawings ----------------------------------------------------------------------------

  const WIDTH = 240;

  function axisOf(estimates) {
    const known = estimates.filter(Boolean).flatMap((own) => own.slice(0, 3)).filter(usable);
    const low = Math.min(0, ...known), high = Math.max(0, ...known);
    return high > low ? [low, high] : [0, 1];
  }

  function bar(estimate, [low, high], written) {
    const at = (value) => 6 + ((Math.min(Math.max(value, low), high) - low) / (high - low)) * (WIDTH - 12);
    const [value, from, to] = estimate;
    return drawn("svg", { class: "bar", viewBox: `0 0 ${WIDTH} 20`, width: WIDTH, height: 20, role: "img", "aria-label": `interval ${ends(estimate, written)}` },
      drawn("line", { class: "axis", x1: 0, x2: WIDTH, y1: 10, y2: 10 }),
      drawn("line", { class: "zero", x1: at(0), x2: at(0), y1: 2, y2: 18 }),
      usable(from) && usable(to) ? drawn("line", { class: "range", x1: at(from), x2: at(to), y1: 10, y2: 10 }) : null,
      drawn("circle", { class: value < 0 ? "against" : "for", cx: at(value), cy: 10, r: 4.5 }),
    );
  }

  // ---- maps over thumbnails ----------------------------------------------------------------

  // Sum of the maps that are switched on, in evidence; the whole map where no concept has its own.
  function summedMap(maps, isOn) {
    const own = maps.filter((map) => map.concept >= 0);
    const chosen = own.length ? own.filter((map) => isOn(map.concept)) : maps;
    if (!chosen.length) return null;
    const { height, width } = chosen[0];
    const cells = new Float32Array(height * width);
    for (const map of chosen)
      if (map.height === height && map.width === width)
        map.cells.forEach((step, at) => { cells[at] += (step / 255) * map.peak; });
    return { height, width, cells, peak: peakOf(maps) };
  }

  const peakOf = (maps) => Math.max(...maps.map((map) => map.peak), 1e-9);

  function paint(canvas, map) {
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!map) return;
    const small = new ImageData(map.width, map.height);
    map.cells.forEach((value, at) => {
      const strength = Math.min(value / map.peak, 1);
      small.data.set([255, 60 + 150 * strength, 0, 235 * strength], 4 * at);
    });
    const cells = node("canvas", { width: map.width, height: map.height });
    cells.getContext("2d").putImageData(small, 0, 0);
    context.imageSmoothingQuality = "high";
    context.drawImage(cells, 0, 0, canvas.width, canvas.height);
  }

  function overlaid(audit, place, side, content) {
    const maps = audit.maps(place);
    if (!maps.length) return { element: content, redraw: () => {} };
    const canvas = node("canvas", { class: "map", width: side, height: side, "aria-hidden": "true" });
    content.append(canvas);
    return { element: content, redraw: (isOn) => paint(canvas, summedMap(maps, isOn)) };
  }

  function opacitySlider(container) {
    const set = (value) => container.style.setProperty("--map", value);
    set(0.75);
    return node("label", { class: "slider" }, "Map over the image ",
      node("input", { type: "range", min: 0, max: 1, step: 0.05, value: 0.75, input: (event) => set(event.target.value) }));
  }

  // ---- shares: concepts that can be switched off -------------------------------------------

  // Rows of evidence with switches. `parts` has logit, bias, rest and concepts; onSwitch is called
  // with a function that tells if a concept is on.
  function shares(audit, parts, onSwitch) {
    const items = shareItems(audit, parts);
    const off = new Set();
    const largest = Math.max(...items.map((item) => Math.abs(item.value)), 1e-9);
    const total = node("p", { class: "total", "aria-live": "polite" });
    const stack = drawn("svg", { class: "stack", viewBox: "0 0 600 26", preserveAspectRatio: "none", "aria-hidden": "true" });
    const update = () => {
      showTotal(total, items, off, parts.logit);
      drawStack(stack, items, off);
      onSwitch((concept) => !off.has(concept));
    };
    const toggle = (key, on) => { on ? off.delete(key) : off.add(key); update(); };
    const list = node("ul", { class: "shares" }, items.map((item) => shareRow(item, largest, toggle)));
    const all = (on) => {
      for (const box of list.querySelectorAll("input")) box.checked = on;
      items.forEach((item) => (on ? off.delete(item.key) : off.add(item.key)));
      update();
    };
    update();
    return node("div", { class: "share-box" }, total, stack,
      node("p", { class: "script-only small" },
        node("button", { type: "button", click: () => all(true) }, "All on"), " ",
        node("button", { type: "button", click: () => all(false) }, "All off")),
      list);
  }

  function shareItems(audit, parts) {
    const named = parts.concepts.map((own) => ({ key: own.concept, text: audit.concepts[own.concept], value: own.value }));
    named.sort((one, two) => Math.abs(two.value) - Math.abs(one.value));
    return [...named,
      { key: "rest", text: "everything else", value: parts.rest, muted: true },
      { key: "bias", text: "bias, in every image", value: parts.bias, muted: true }];
  }

  function shareRow(item, largest, toggle) {
    const width = (Math.abs(item.value) / largest) * 100;
    const strip = node("span", { class: `strip ${item.value < 0 ? "against" : "for"}` });
    strip.style.setProperty("--part", `${width / 2}%`);
    return node("li", { class: item.muted ? "muted" : null },
      node("label", { class: "chip" },
        node("input", { type: "checkbox", checked: true, change: (event) => toggle(item.key, event.target.checked) }),
        node("span", {}, item.text)),
      strip,
      node("span", { class: "number" }, signed(item.value)));
  }

  function showTotal(total, items, off, logit) {
    const left = items.reduce((sum, item) => sum + (off.has(item.key) ? 0 : item.value), 0);
    total.replaceChildren("Logit ", node("b", {}, plain(left)));
    if (off.size) total.append(` with ${off.size} of ${items.length} parts switched off; all together ${plain(logit)}`);
    else total.append(", the sum of all parts");
  }

  function drawStack(stack, items, off) {
    const up = items.filter((item) => item.value > 0), down = items.filter((item) => item.value < 0);
    const sum = (own) => own.reduce((left, item) => left + Math.abs(item.value), 0);
    const unit = 600 / Math.max(sum(up) + sum(down), 1e-9);
    const zero = sum(down) * unit;
    let right = zero, left = zero;
    const pieces = [];
    for (const item of [...up, ...down]) {
      const width = Math.abs(item.value) * unit;
      const x = item.value > 0 ? right : left - width;
      if (item.value > 0) right += width; else left -= width;
      const kind = `${item.value > 0 ? "for" : "against"}${off.has(item.key) ? " off" : ""}${item.muted ? " muted" : ""}`;
      pieces.push(drawn("rect", { class: kind, x, y: 3, width: Math.max(width - 1, 0.5), height: 20 }, drawn("title", {}, `${item.text} ${signed(item.value)}`)));
    }
    stack.replaceChildren(...pieces, drawn("line", { class: "zero", x1: zero, x2: zero, y1: 0, y2: 26 }));
  }

  // ---- class view --------------------------------------------------------------------------

  function showClass(audit, index) {
    const view = byId("class");
    const own = audit.classes.find((known) => known.index === index);
    if (!own) return missing(view, "There is no such class in this audit.");
    const redraws = [];
    const redraw = (isOn) => redraws.forEach((again) => again(isOn));
    const table = classTable(audit, own, redraws);
    const parts = meanParts(audit, index);
    const hasMaps = own.concepts.some((concept) => concept.images.some((place) => audit.maps(place).length));
    view.replaceChildren(
      node("p", { class: "crumbs" }, node("a", { href: "#classes" }, "Classes"), " / ", own.name),
      node("h1", { tabindex: -1 }, own.name),
      classFacts(audit, own),
      classFindings(audit, index),
      node("h2", {}, "Concepts that carry it"),
      hasMaps ? opacitySlider(view) : "",
      node("div", { class: "scroll" }, table),
      ...(parts ? [
        node("h2", {}, "Mean logit, part by part"),
        node("p", { class: "lead" }, `Over ${count(parts.count)} images of this page. Switch parts off to see what is left${hasMaps ? "; maps above follow" : ""}.`),
        shares(audit, parts, redraw)] : []),
    );
    redraw(() => true);
    return own.name;
  }

  function missing(view, sentence) {
    view.replaceChildren(node("h1", { tabindex: -1 }, "Not found"), node("p", {}, sentence));
    return "Not found";
  }

  function classFacts(audit, own) {
    return node("div", {},
      node("ul", { class: "tiles" },
        node("li", {}, node("b", {}, count(own.count)), node("span", {}, "images")),
        own.accuracy ? node("li", {}, node("b", {}, percent(own.accuracy[0])), node("span", {}, `predicted right (${ends(own.accuracy, percent)})`)) : null),
      own.slices.length ? sliceTable(own.slices) : "",
      node("p", { class: "links" },
        node("a", { href: `#images?class=${own.index}` }, `Images of ${own.name}`), " ",
        node("a", { href: `#images?class=${own.index}&state=wrong` }, "wrong ones"), " ",
        node("a", { href: `#images?predicted=${own.index}&state=wrong` }, `others taken for ${own.name}`)));
  }

  function sliceTable(slices) {
    return node("table", { class: "slices" },
      node("thead", {}, node("tr", {}, ["Slice", "Right", "Interval"].map((text) => node("th", { scope: "col" }, text)))),
      node("tbody", {}, slices.map(([name, accuracy]) => node("tr", {},
        node("th", { scope: "row" }, name),
        node("td", { class: "number" }, percent(accuracy[0])),
        node("td", {}, bar(accuracy, [0, 1], percent), node("span", { class: "ends" }, ends(accuracy, percent)))))));
  }

  function classFindings(audit, index) {
    const own = audit.findings.map((finding, at) => [finding, at + 1]).filter(([finding]) => finding.class === index);
    if (!own.length) return "";
    return node("div", { class: "callout" }, node("h2", {}, "Findings in this class"),
      node("ul", {}, own.map(([finding, number]) => node("li", {}, node("a", { href: `#findings/${number}` }, finding.concepts.join(" with ")), ` – ${finding.statement}`))));
  }

  const CONCEPT_COLUMNS = [
    ["Concept", (row, audit) => audit.concepts[row.concept]],
    ["Mean evidence", (row) => row.evidence[0]],
    ["Share of the logit", (row) => row.share?.[0] ?? -Infinity],
    ["In images", (row) => row.prevalence[0]],
    ["Spread", (row) => row.spread],
    ["Images, from most to least evidence", null],
  ];

  function classTable(audit, own, redraws) {
    const axis = axisOf(own.concepts.map((concept) => concept.evidence));
    const rows = own.concepts.map((concept) => ({ concept, element: conceptRow(audit, concept, axis, redraws) }));
    const body = node("tbody", {}, rows.map((row) => row.element));
    const heads = CONCEPT_COLUMNS.map(([text, value]) => node("th", { scope: "col" }, value
      ? node("button", { type: "button", class: "sorter", click: (event) => sortBody(event.currentTarget.parentNode, body, rows, (row) => value(row.concept, audit)) }, text)
      : text));
    return node("table", { class: "concepts" }, node("thead", {}, node("tr", {}, heads)), body);
  }

  function sortBody(head, body, rows, value) {
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const sign = down ? -1 : 1;
    rows.sort((one, two) => sign * (value(one) > value(two) ? 1 : value(one) < value(two) ? -1 : 0));
    body.append(...rows.map((row) => row.element));
  }

  const QUANTILES = 6;

  // At most `most` of the items, from the first to the last at equal distances.
  function spread(items, most) {
    if (items.length <= most) return items;
    return range(0, most).map((at) => items[Math.round((at * (items.length - 1)) / (most - 1))]);
  }

  function conceptRow(audit, concept, axis, redraws) {
    const text = audit.concepts[concept.concept];
    return node("tr", {},
      node("th", { scope: "row" }, node("a", { href: `#images?sort=concept&concept=${encodeURIComponent(text)}`, title: "Images by this concept" }, text), concept.kind ? node("span", { class: "ends" }, concept.kind) : ""),
      node("td", {}, node("b", {}, signed(concept.evidence[0])), bar(concept.evidence, axis, plain), node("span", { class: "ends" }, ends(concept.evidence, plain))),
      node("td", { class: "number" }, concept.share ? percent(concept.share[0]) : "–"),
      node("td", { class: "number" }, percent(concept.prevalence[0])),
      node("td", { class: "number" }, plain(concept.spread)),
      node("td", {}, node("div", { class: "thumbs" }, spread(concept.images, QUANTILES).map((place) => quantileTile(audit, place, concept.concept, redraws)))));
  }

  function quantileTile(audit, place, concept, redraws) {
    const link = tile(audit, place, signed(evidenceAt(audit, place, concept)));
    const { redraw } = overlaid(audit, place, 96, link);
    redraws.push(redraw);
    return link;
  }

  function evidenceAt(audit, place, concept) {
    const [start, end] = audit.span("target_concepts", place);
    const concepts = audit.column("target_concept");
    for (let at = start; at < end; at++) if (concepts[at] === concept) return audit.column("target_evidence")[at];
    return 0;
  }

  const LEAST_MEAN = 0.02;

  // Mean of the parts over a class's images; null where there are none.
  function meanParts(audit, index) {
    const sums = new Map();
    let images = 0, logit = 0, bias = 0;
    for (let place = 0; place < audit.count; place++) {
      if (audit.column("target_class")[place] !== index || audit.column("label_class")[place] !== index) continue;
      const own = audit.parts(place, "target");
      if (!own || audit.column("degraded")[place]) continue;
      images += 1; logit += own.logit; bias += own.bias;
      for (const { concept, value } of own.concepts) sums.set(concept, (sums.get(concept) ?? 0) + value);
    }
    if (!images) return null;
    const concepts = [...sums].map(([concept, sum]) => ({ concept, value: sum / images }))
      .sort((one, two) => Math.abs(two.value) - Math.abs(one.value)).filter((own) => Math.abs(own.value) >= LEAST_MEAN).slice(0, 16);
    const rest = concepts.reduce((left, own) => left - own.value, (logit - bias) / images);
    return { count: images, logit: logit / images, bias: bias / images, rest, concepts };
  }

  // ---- filter and order --------------------------------------------------------------------

  function tests(audit, query) {
    const made = [];
    const equal = (values, wanted) => made.push((place) => values[place] === wanted);
    const column = (name, wanted) => equal(audit.column(name), wanted);
    if (query.get("label")) column("label", audit.labels.indexOf(query.get("label")));
    if (query.get("class")) column("label_class", Number(query.get("class")));
    if (query.get("predicted")) equal(audit.first.classes, Number(query.get("predicted")));
    if (query.get("state")) column("state", STATES.indexOf(query.get("state")));
    audit.slices.forEach((slice, number) => {
      const wanted = query.get(`slice:${slice.name}`);
      if (wanted) column(`slice${number}`, slice.values.indexOf(wanted));
    });
    if (query.get("other") && audit.other) made.push(otherTest(audit, query.get("other")));
    const text = (query.get("q") ?? "").toLowerCase();
    if (text) made.push((place) => audit.folded[place].includes(text));
    const least = parseFloat(query.get("least"));
    if (query.get("concept") && Number.isFinite(least)) {
      const evidence = conceptEvidence(audit, query.get("concept"));
      made.push((place) => evidence[place] >= least);
    }
    return made;
  }

  function otherTest(audit, wanted) {
    const there = audit.column("other"), labels = audit.column("label_class");
    const here = (place) => audit.predicted(place);
    const right = (place, predicted) => labels[place] >= 0 && labels[place] === predicted;
    return {
      changed: (place) => there[place] >= 0 && there[place] !== here(place),
      "only-here": (place) => there[place] >= 0 && right(place, here(place)) && !right(place, there[place]),
      "only-there": (place) => !right(place, here(place)) && right(place, there[place]),
    }[wanted] ?? (() => true);
  }

  let lastEvidence = [null, null];

  function conceptEvidence(audit, text) {
    if (lastEvidence[0] !== text) lastEvidence = [text, audit.evidence(audit.conceptNumbers.get(text) ?? -1)];
    return lastEvidence[1];
  }

  function orderKey(audit, query) {
    switch (query.get("sort")) {
      case "concept": return query.get("concept") ? conceptEvidence(audit, query.get("concept")) : null;
      case "logit": return audit.column("target_logit");
      case "name": return audit.nameKey;
      case "probability": return audit.first.probabilities;
      default: return null;
    }
  }

  function matching(audit, query) {
    const checks = tests(audit, query);
    const found = [];
    for (let place = 0; place < audit.count; place++) if (checks.every((check) => check(place))) found.push(place);
    const key = orderKey(audit, query);
    if (key) sortByKey(found, key);
    return query.get("order") === "up" ? found.reverse() : found;
  }

  // The largest first, equal ones in the order of the data, rows without a number last. Bits of the
  // number and the place share one float64, since numbers are sorted faster than by a function.
  function sortByKey(places, key) {
    const bits = new Int32Array(key.buffer, key.byteOffset, key.length);
    const packed = Float64Array.from(places, (place) => rank(key[place], bits[place]) * PLACES + place).sort();
    packed.forEach((own, at) => { places[at] = own % PLACES; });
  }

  const PLACES = 2 ** 21;

  // The bits of a float32 as a number that falls as the float rises; NaN has the largest.
  function rank(value, bits) {
    if (Number.isNaN(value)) return 2 ** 32 - 1;
    if (value === 0) return 2 ** 31;
    return bits >= 0 ? 2 ** 31 - bits : 2 ** 31 + (bits & 0x7fffffff);
  }

  // ---- list of images ----------------------------------------------------------------------

  let list = { places: [], query: "" };

  function showImages(audit, query) {
    const view = byId("images");
    if (!view.firstChild) buildImages(audit, view);
    readControls(view, query);
    refresh(audit, query);
    return "Images";
  }

  function buildImages(audit, view) {
    const status = node("p", { id: "image-count", role: "status" });
    const grid = node("div", { id: "grid", class: "grid" });
    view.append(
      node("h1", { id: "images-title", tabindex: -1 }, "Images"),
      node("form", { class: "filters", role: "search", "aria-label": "Filter of images", submit: (event) => event.preventDefault(), input: () => changed(audit, view), },
        controls(audit), node("input", { type: "hidden", name: "class" }),
        node("button", { type: "button", click: () => clear(audit, view) }, "Clear")),
      node("datalist", { id: "concept-list" }, audit.concepts.toSorted().map((text) => node("option", { value: text }))),
      status, grid);
    new Grid(audit, grid);
  }

  const field = (text, input) => node("label", {}, node("span", {}, text), input);

  const choice = (name, options) => node("select", { name }, node("option", { value: "" }, "any"),
    options.map(([value, text]) => node("option", { value }, text)));

  function controls(audit) {
    const classes = Object.entries(audit.class_names).sort((one, two) => (one[1] < two[1] ? -1 : 1));
    const states = STATES.filter((_, state) => audit.column("state").includes(state));
    return [
      field("Name contains", node("input", { type: "search", name: "q", autocomplete: "off" })),
      field("Label", choice("label", audit.labels.map((text) => [text, text]))),
      field("Predicted", choice("predicted", classes)),
      field("Prediction is", choice("state", states.map((text) => [text, text]))),
      ...audit.slices.map((slice) => field(slice.name, choice(`slice:${slice.name}`, slice.values.map((text) => [text, text])))),
      ...(audit.other ? [field(`Against ${audit.other}`, choice("other", [["changed", "another prediction"], ["only-here", "right here alone"], ["only-there", "right there alone"]]))] : []),
      field("Concept", node("input", { type: "search", name: "concept", list: "concept-list", autocomplete: "off" })),
      field("with at least (logits)", node("input", { type: "number", name: "least", step: "0.1" })),
      field("Order by", node("select", { name: "sort" }, [["", "place in the data"], ["concept", "evidence of the concept"], ["probability", "probability"], ["logit", "logit"], ["name", "name"]].map(([value, text]) => node("option", { value }, text)))),
      field("Direction", node("select", { name: "order" }, node("option", { value: "" }, "first or highest first"), node("option", { value: "up" }, "last or lowest first"))),
    ];
  }

  function readControls(view, query) {
    for (const control of view.querySelector("form").elements)
      if (control.name && control !== document.activeElement) control.value = query.get(control.name) ?? "";
  }

  function queryOf(form) {
    const query = new URLSearchParams();
    for (const control of form.elements) if (control.name && control.value) query.set(control.name, control.value);
    return query;
  }

  function clear(audit, view) {
    for (const control of view.querySelector("form").elements) if (control.name) control.value = "";
    changed(audit, view);
  }

  function changed(audit, view) {
    const query = queryOf(view.querySelector("form"));
    if (query.get("concept") && !query.get("sort")) { query.set("sort", "concept"); view.querySelector("[name=sort]").value = "concept"; }
    history.replaceState(null, "", `#images${query.size ? `?${query}` : ""}`);
    refresh(audit, query);
  }

  function refresh(audit, query) {
    const started = performance.now();
    list = { places: matching(audit, query), query: query.toString() };
    const concept = query.get("concept");
    const shown = concept && audit.conceptNumbers.has(concept) ? conceptEvidence(audit, concept) : null;
    byId("grid").grid.show(list.places, shown);
    root.dataset.filterMs = (performance.now() - started).toFixed(2);
    const words = query.get("class") ? ` of class ${audit.className(Number(query.get("class")))}` : "";
    const unknown = concept && !shown ? ". No image has this concept among its strongest" : "";
    byId("image-count").textContent = `${count(list.places.length)} of ${count(audit.count)} images${words}${unknown}`;
  }

  // Grid that holds only the tiles near the part of it that is seen.
  class Grid {
    constructor(audit, element) {
      this.audit = audit;
      this.element = element;
      element.grid = this;
      this.inner = node("div", { class: "grid-inner", role: "list", "aria-label": "Images" });
      element.append(this.inner);
      this.places = [];
      this.tiles = new Map();
      this.current = 0;
      element.addEventListener("scroll", () => requestAnimationFrame(() => this.draw()), { passive: true });
      element.addEventListener("keydown", (event) => this.move(event));
      element.addEventListener("focusin", (event) => this.focused(event));
      new ResizeObserver(() => this.draw()).observe(element);
    }

    show(places, evidence) {
      this.places = places;
      this.evidence = evidence;
      this.current = 0;
      this.tiles.clear();
      this.inner.replaceChildren();
      if (this.element.scrollTop) this.element.scrollTop = 0;
      this.draw();
    }

    measure() {
      const { clientWidth, clientHeight, scrollTop } = this.element;
      this.columns = Math.max(1, Math.floor((clientWidth - 4) / Grid.WIDTH));
      this.step = (clientWidth - 4) / this.columns;
      return [scrollTop, clientHeight];
    }

    // Measures first and changes then, so that the browser lays the page out once.
    draw() {
      const [top, height] = this.measure();
      if (!height) return;
      const { columns } = this;
      const first = Math.max(0, Math.floor(top / Grid.HEIGHT) - 1) * columns;
      const last = Math.min(this.places.length, (Math.ceil((top + height) / Grid.HEIGHT) + 1) * columns);
      this.inner.style.height = `${Math.ceil(this.places.length / columns) * Grid.HEIGHT}px`;
      for (const [at, tile] of this.tiles) if (at < first || at >= last) { tile.remove(); this.tiles.delete(at); }
      const made = document.createDocumentFragment();
      for (let at = first; at < last; at++) this.place(at, made);
      this.inner.append(made);
    }

    place(at, made) {
      const cell = this.tiles.get(at) ?? this.make(at, made);
      cell.style.transform = `translate(${(at % this.columns) * this.step}px, ${Math.floor(at / this.columns) * Grid.HEIGHT}px)`;
    }

    make(at, fragment) {
      const place = this.places[at];
      const link = tile(this.audit, place, this.evidence ? signed(this.evidence[place]) : "");
      link.tabIndex = at === this.current ? 0 : -1;
      const made = node("div", { role: "listitem", class: "cell", "data-at": at, "aria-setsize": this.places.length, "aria-posinset": at + 1 }, link);
      this.tiles.set(at, made);
      fragment.append(made);
      return made;
    }

    focused(event) {
      const cell = event.target.closest(".cell");
      if (!cell) return;
      this.tiles.get(this.current)?.firstChild.setAttribute("tabindex", -1);
      this.current = Number(cell.dataset.at);
      cell.firstChild.tabIndex = 0;
    }

    move(event) {
      const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, Home: -this.current, End: this.places.length - 1 - this.current }[event.key];
      if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      const next = this.current + step;
      if (next >= 0 && next < this.places.length) this.focus(next);
    }

    focus(at) {
      const top = Math.floor(at / this.columns) * Grid.HEIGHT;
      const { element } = this;
      if (top < element.scrollTop) element.scrollTop = top;
      else if (top + Grid.HEIGHT > element.scrollTop + element.clientHeight) element.scrollTop = top + Grid.HEIGHT - element.clientHeight;
      this.draw();
      this.tiles.get(at)?.firstChild.focus({ preventScroll: true });
    }
  }
  Grid.WIDTH = 117;
  Grid.HEIGHT = 148;

  // ---- one image ---------------------------------------------------------------------------

  function showImage(audit, name) {
    const view = byId("image");
    const place = audit.places.get(name);
    if (place === undefined) return missing(view, `This page has no image named “${name}”.`);
    const stage = node("div", { class: "stage" }, picture(audit, place, 288));
    const { redraw } = overlaid(audit, place, 288, stage);
    const main = audit.parts(place, "target");
    const contrast = audit.parts(place, "error");
    view.replaceChildren(
      neighbours(audit, place),
      node("h1", { tabindex: -1 }, name),
      node("div", { class: "image-view" },
        node("div", { class: "image-side" }, stage,
          audit.maps(place).length ? opacitySlider(stage) : "", permalink()),
        node("div", {}, imageFacts(audit, place))),
      main ? explained(audit, main, redraw) : "",
      contrast ? explained(audit, contrast, () => {}) : "",
    );
    return name;
  }

  function permalink() {
    return node("p", { class: "small" }, node("button", { type: "button", click: copyLink }, "Copy link to this view"));
  }

  async function copyLink(event) {
    const button = event.currentTarget;
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
    } catch {
      button.replaceWith(node("input", { class: "link", readonly: true, value: location.href, "aria-label": "Link to this view", focus: (focus) => focus.target.select() }));
    }
  }

  function neighbours(audit, place) {
    const at = list.places.indexOf(place);
    const back = node("a", { href: `#images${list.query ? `?${list.query}` : ""}`, id: "back" }, "Images");
    if (at < 0) return node("p", { class: "crumbs" }, back);
    const step = (to, text, id) => (to >= 0 && to < list.places.length
      ? node("a", { id, href: imageHash(audit, list.places[to]) }, text) : node("span", { class: "muted" }, text));
    return node("p", { class: "crumbs" }, back, ` / ${count(at + 1)} of ${count(list.places.length)} `,
      node("span", { class: "steps" }, step(at - 1, "← previous", "previous"), " ", step(at + 1, "next →", "next")));
  }

  function imageFacts(audit, place) {
    const state = audit.column("state")[place];
    const entry = (term, ...value) => node("div", {}, node("dt", {}, term), node("dd", {}, ...value));
    const slices = audit.slices.map((slice, number) => [slice, audit.column(`slice${number}`)[place]]).filter(([, value]) => value >= 0);
    const failure = audit.failures[place];
    return node("dl", { class: "about" },
      failure ? entry("No answer", failure) : null,
      entry("Label", audit.label(place) ?? "none", state === UNKNOWN && !failure ? node("span", { class: "ends" }, "the model does not know it") : ""),
      failure ? null : entry("Predicted", ...predictionLines(audit, place, state)),
      audit.other ? entry(audit.other, otherLine(audit, place)) : null,
      audit.column("degraded")[place] ? entry("Degraded", "The server left parts of this answer out; it enters no statistic.") : null,
      ...slices.map(([slice, value]) => entry(slice.name, slice.values[value])),
      failure ? null : entry("Said", phraseList(audit.phrases(place))));
  }

  function predictionLines(audit, place, state) {
    const badge = state === RIGHT || state === WRONG ? node("span", { class: `verdict ${STATES[state]}` }, STATES[state]) : "";
    return audit.predictions(place).map(([index, probability], rank) => node("div", { class: rank ? "lesser" : null },
      `${audit.className(index)} `, percent(probability), " ", rank ? "" : badge));
  }

  function otherLine(audit, place) {
    const predicted = audit.column("other")[place];
    return predicted < 0 ? "no answer" : `${audit.className(predicted)} ${percent(audit.column("other_probability")[place])}`;
  }

  function phraseList(phrases) {
    if (!phrases.length) return "nothing";
    return node("ul", { class: "said" }, phrases.map((phrase) => node("li", {}, node("b", {}, phrase.text), ` ${signed(phrase.evidence)}`,
      Number.isFinite(phrase.probability) ? node("span", { class: "ends inline" }, ` true with ${percent(phrase.probability)}`) : "")));
  }

  function explained(audit, parts, redraw) {
    const target = audit.className(parts.target);
    const title = parts.reference >= 0 ? `Why ${target} rather than ${audit.className(parts.reference)}` : `Evidence for ${target}`;
    return node("section", {}, node("h2", {}, title),
      node("p", { class: "lead" }, parts.reference >= 0
        ? "Difference of the two logits, part by part." : "The class's logit, part by part.", " Switch parts off to see what is left."),
      shares(audit, parts, redraw));
  }

  // ---- findings and static tables ----------------------------------------------------------

  function dressFindings(audit) {
    for (const item of document.querySelectorAll(".thumbs li[data-place]")) {
      const place = Number(item.dataset.place);
      item.replaceChildren(tile(audit, place, ""));
    }
    document.querySelectorAll("#findings .finding").forEach((card, number) => {
      const finding = audit.findings[number];
      const concept = encodeURIComponent(finding.concepts[0] ?? "");
      card.append(node("p", { class: "links" },
        finding.class === null ? "" : node("a", { href: `#class/${finding.class}` }, `Class ${audit.className(finding.class)}`), " ",
        concept ? node("a", { href: `#images?concept=${concept}&sort=concept` }, `All images by “${finding.concepts[0]}”`) : ""));
    });
    for (const cell of document.querySelectorAll("[data-link]"))
      cell.replaceChildren(node("a", { href: cell.dataset.link }, cell.textContent));
  }

  function searchClasses(event) {
    const text = event.target.value.toLowerCase();
    for (const row of byId("class-table").tBodies[0].rows)
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(text);
  }

  // ---- routes ------------------------------------------------------------------------------

  const ready = new Promise((resolve) => document.addEventListener("DOMContentLoaded", () => resolve(load())));
  let audit = null;

  function parsed() {
    const hash = location.hash.slice(1) || "findings";
    const [, name, rest, query] = /^([a-z]+)\/?([^?]*)\??(.*)$/s.exec(hash) ?? [null, "findings", "", ""];
    return { name, rest, query: new URLSearchParams(query) };
  }

  function decoded(text) {
    try { return decodeURIComponent(text); } catch { return text; }
  }

  async function route() {
    const { name, rest, query } = parsed();
    const shown = byId(name)?.classList.contains("view") ? name : "findings";
    for (const view of document.querySelectorAll(".view")) view.hidden = view.id !== shown;
    mark(shown);
    if (["class", "images", "image"].includes(shown)) audit ??= await ready;
    const title = { class: () => showClass(audit, Number(rest)), images: () => showImages(audit, query), image: () => showImage(audit, decoded(rest)) }[shown]?.();
    if (title) document.title = `${title} – audit`;
    scrollTo(0, 0);
    if (shown === "findings" && rest) byId(`finding-${rest}`)?.scrollIntoView();
    if (started) focusHeading(shown);
    started = true;
  }

  let started = false;

  function focusHeading(shown) {
    const heading = byId(shown).querySelector("h1");
    heading?.setAttribute("tabindex", -1);
    heading?.focus({ preventScroll: true });
  }

  function mark(shown) {
    const tab = { class: "classes", image: "images" }[shown] ?? shown;
    for (const link of document.querySelectorAll("nav a")) {
      if (link.getAttribute("href") === `#${tab}`) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    root.dataset.view = shown;
  }

  // ---- colours, keyboard, help -------------------------------------------------------------

  const THEMES = ["", "light", "dark"];

  function stored(key, value) {
    try {
      if (value === undefined) return localStorage.getItem(key) ?? "";
      localStorage.setItem(key, value);
    } catch { /* a page from disk may have no storage */ }
    return value ?? "";
  }

  function setTheme(theme) {
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    byId("theme").setAttribute("aria-label", `Colours: ${theme || "as the system"}`);
    byId("theme").title = byId("theme").getAttribute("aria-label");
    stored("textcam-theme", theme);
  }

  const nextTheme = () => setTheme(THEMES[(THEMES.indexOf(root.dataset.theme ?? "") + 1) % THEMES.length]);
  const go = (hash) => { location.hash = hash; };

  async function search() {
    go("#images");
    audit ??= await ready;
    setTimeout(() => byId("images").querySelector("[name=q]").focus(), 50);
  }

  const LETTERS = {
    f: () => go("#findings"), c: () => go("#classes"), i: () => go("#images"), a: () => go("#overview"),
    d: () => byId("comparison") && go("#comparison"), t: nextTheme, "/": search, "?": () => byId("help").showModal(),
  };

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || byId("help").open) return;
    const writing = event.target.closest("input:not([type=checkbox]):not([type=range]), select, textarea");
    if (root.dataset.view === "image" && !writing && event.target.type !== "range") {
      const id = { ArrowLeft: "previous", ArrowRight: "next", Escape: "back" }[event.key];
      if (id) { byId(id)?.click(); return; }
    }
    if (writing || !byId("keys").checked) return;
    const act = Object.hasOwn(LETTERS, event.key) ? LETTERS[event.key] : null;
    if (act) { event.preventDefault(); act(); }
  }

  function start() {
    setTheme(THEMES.includes(stored("textcam-theme")) ? stored("textcam-theme") : "");
    byId("theme").addEventListener("click", nextTheme);
    byId("help-open").addEventListener("click", () => byId("help").showModal());
    byId("help-close").addEventListener("click", () => byId("help").close());
    byId("class-search").addEventListener("input", searchClasses);
    document.addEventListener("keydown", pressed);
    addEventListener("hashchange", route);
    addEventListener("beforeprint", () => { for (const closed of document.querySelectorAll("details")) closed.open = true; });
    ready.then((loaded) => { audit = loaded; dressFindings(loaded); root.dataset.ready = "true"; }).catch(failed);
    route().catch(failed);
  }

  function failed(error) {
    byId("trouble").textContent = error.message;
    byId("trouble").hidden = false;
  }

  start();
})();
