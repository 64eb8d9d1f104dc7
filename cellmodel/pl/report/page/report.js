(() => {
  "use strict";

  const root = document.documentElement;
  root.classList.add("js");
  const byId = (id) => document.getElementById(id);
  const payload = JSON.parse(byId("plot-data").textContent);

  // data
  function bytes(text) {
    const raw = atob(text);
    const out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i += 1) out[i] = raw.charCodeAt(i);
    return new DataView(out.buffer);
  }
  function floats(text) {
    const view = bytes(text);
    return Float32Array.from({ length: view.byteLength / 4 }, (_, i) => view.getFloat32(4 * i, true));
  }
  function integers(text) {
    const view = bytes(text);
    return Uint32Array.from({ length: view.byteLength / 4 }, (_, i) => view.getUint32(4 * i, true));
  }

  const ids = payload.cell_ids;
  const nDrawn = ids.length;
  const layouts = payload.layouts.map(readLayout);
  let { coordinates, bounds } = layouts[0]; // x and y of the first cell, of the second, ...
  const columns = payload.columns.map((column) => ({
    ...column,
    values: column.kind === "categories" ? integers(column.values) : floats(column.values),
  }));
  const [clusters] = columns;
  /** Coordinates of a map and their ends; those of a tissue lie on the picture behind it. */
  function readLayout(layout) {
    const all = floats(layout.coordinates);
    const ends = [0, 1].map((axis) => {
      const found = layout.image ? [0, axis ? layout.image.height : layout.image.width] : [Infinity, -Infinity];
      for (let i = axis; i < all.length; i += 2) {
        found[0] = Math.min(found[0], all[i]);
        found[1] = Math.max(found[1], all[i]);
      }
      return found;
    });
    const picture = layout.image ? Object.assign(new Image(), { src: layout.image.uri }) : null;
    picture?.addEventListener("load", () => redraw());
    return { ...layout, picture, coordinates: all, bounds: { x: ends[0], y: ends[1] } };
  }
  const genes = new Map(payload.genes.map((gene) => [gene.name, gene]));
  /** Calls `found(cell, level)` for each cell that expresses a gene: 255 steps lead up to its highest value. */
  function eachLevel({ highest, values }, found) {
    const view = bytes(values);
    const isDense = view.byteLength === nDrawn;
    for (let at = 0, i = -1; at < view.byteLength; at += 1) {
      i += 1;
      if (!isDense) {
        for (; view.getUint8(at) === 255; at += 1) i += 255; // cells since the last one that expresses it
        i += view.getUint8(at);
        at += 1;
      }
      if (view.getUint8(at)) found(i, (view.getUint8(at) / 255) * highest);
    }
  }
  function geneColumn(gene) {
    const levels = new Float32Array(nDrawn);
    eachLevel(gene, (i, level) => { levels[i] = level; });
    return { name: gene.name, kind: "numbers", isGene: true, values: levels };
  }
  const order = shuffled(nDrawn); // so that no group covers the others for being last in the file

  function shuffled(n) {
    const out = Uint32Array.from({ length: n }, (_, i) => i);
    let state = 12345;
    for (let i = n - 1; i > 0; i -= 1) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      const j = Math.floor((state / 4294967296) * (i + 1));
      [out[i], out[j]] = [out[j], out[i]];
    }
    return out;
  }

  // colors
  const SCALE = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
  const GENE_SCALE = { light: ["#dde1e6", "#f2a65a", "#c0392b", "#5e0b15"], dark: ["#353b43", "#8a4b2f", "#f08a4b", "#ffe3a3"] };
  const STEPS = 64;
  const SMALL_GROUP = 60; // cells that a label in their midst would cover
  const page = {};

  function isDark() {
    return (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  }
  function readPageColors() {
    const style = getComputedStyle(root);
    for (const name of ["plot", "ink", "faded", "muted"]) page[name] = style.getPropertyValue(`--${name}`).trim();
  }
  function scaleColor(share, isGene) {
    if (isGene) return blend(GENE_SCALE[isDark() ? "dark" : "light"], share);
    // the dark end would sink into a dark page, the yellow end into a light one
    return blend(SCALE, isDark() ? 0.2 + 0.8 * share : 0.92 * share);
  }
  function blend(scale, share) {
    const at = share * (scale.length - 1);
    const low = Math.min(Math.floor(at), scale.length - 2);
    const mix = [1, 3, 5].map((k) => {
      const [a, b] = [scale[low], scale[low + 1]].map((color) => parseInt(color.slice(k, k + 2), 16));
      return Math.round(a + (b - a) * (at - low));
    });
    return `rgb(${mix.join(",")})`;
  }
  function plain(value) {
    return Number.isFinite(value) ? String(Number(value.toPrecision(3))) : "missing";
  }

  /** Groups of cells with a color each: `bin[i]` is the group of cell i; the last group is gray. */
  function paint(column) {
    if (column.kind === "categories") {
      const gray = column.colors.length;
      return { bin: column.values.map((code) => Math.min(code, gray)), colors: [...column.colors, page.muted], order };
    }
    const known = column.values.filter(Number.isFinite).sort();
    const { low, high } = column.isGene ? { ...scaleEnds(known), low: 0 } : scaleEnds(known);
    const width = high > low ? high - low : 1;
    const place = (value) => Math.round(Math.min(Math.max((value - low) / width, 0), 1) * (STEPS - 1));
    const bin = Uint32Array.from(column.values, (value) => (Number.isFinite(value) ? place(value) : STEPS));
    const colors = Array.from({ length: STEPS }, (_, step) => scaleColor(step / (STEPS - 1), column.isGene));
    const isCut = { low: known[0] < low, high: known[known.length - 1] > high };
    const sorted = column.isGene ? order.slice().sort((a, b) => bin[a] - bin[b]) : order; // what is expressed lies on top
    return { bin, colors: [...colors, page.faded], low, high, isCut, nMissing: nDrawn - known.length, order: sorted };
  }
  /** The 1st and 99th of 100 parts, so that a few outliers do not use up the scale; the range where those are equal. */
  function scaleEnds(sorted) {
    const at = (part) => sorted[Math.round(part * (sorted.length - 1))];
    return at(0.99) > at(0.01) ? { low: at(0.01), high: at(0.99) } : { low: at(0), high: at(1) };
  }

  // plot
  const canvas = byId("canvas");
  const tooltip = byId("tooltip");
  const context = canvas.getContext("2d");
  const state = { layout: layouts[0], column: clusters, painted: null, shown: new Set(), zoom: 1, x: 0, y: 0, width: 0, height: 0, found: -1 };
  Object.assign(state, { names: true, labels: [], lasso: null, selected: null });
  const share = (value, [low, high]) => (high > low ? (value - low) / (high - low) : 0.5);
  /** Where a point is in a frame, 0 to 1: the second axis goes up, but in a tissue down, and both are to scale there. */
  function inFrame(x, y, width, height) {
    const at = [share(x, bounds.x), share(y, bounds.y)];
    if (!state.layout.is_tissue) return [at[0], 1 - at[1]];
    const [wide, high] = [bounds.x[1] - bounds.x[0] || 1, bounds.y[1] - bounds.y[0] || 1];
    const unit = Math.min(width / wide, height / high);
    return [0.5 + ((at[0] - 0.5) * wide * unit) / width, 0.5 + ((at[1] - 0.5) * high * unit) / height];
  }
  function onScreen(x, y) {
    const [left, top] = inFrame(x, y, state.width - 48, state.height - 48);
    return [state.x + state.zoom * (24 + left * (state.width - 48)), state.y + state.zoom * (24 + top * (state.height - 48))];
  }
  const screen = (i) => onScreen(coordinates[2 * i], coordinates[2 * i + 1]);
  const isShown = (i) => state.shown.size === 0 || state.shown.has(state.painted.bin[i]);

  function pointRadius() {
    const base = (Math.min(state.width, 900) / 900) ** 0.5 * (200 / Math.sqrt(nDrawn));
    return Math.min(Math.max(base, 1.2), 5) * Math.min(state.zoom, 30) ** 0.35;
  }
  function sprite(color, radius, ratio) {
    const image = document.createElement("canvas");
    image.width = image.height = Math.ceil(2 * (radius + 1) * ratio);
    const brush = image.getContext("2d");
    brush.scale(ratio, ratio);
    brush.beginPath();
    brush.arc(radius + 1, radius + 1, radius, 0, 2 * Math.PI);
    brush.fillStyle = color;
    brush.fill();
    return image;
  }
  function draw() {
    const ratio = window.devicePixelRatio || 1;
    state.width = canvas.clientWidth;
    state.height = canvas.clientHeight;
    canvas.width = Math.round(state.width * ratio);
    canvas.height = Math.round(state.height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = page.plot;
    context.fillRect(0, 0, state.width, state.height);
    drawPicture();
    const radius = pointRadius();
    const side = 2 * (radius + 1);
    const sprites = state.painted.colors.map((color) => sprite(color, radius, ratio));
    const faded = sprite(page.faded, radius, ratio);
    for (const shown of state.shown.size ? [false, true] : [true]) {
      context.globalAlpha = shown ? 0.92 : 0.6;
      for (const i of state.painted.order) {
        if (isShown(i) !== shown) continue;
        const [x, y] = screen(i);
        context.drawImage(shown ? sprites[state.painted.bin[i]] : faded, x - side / 2, y - side / 2, side, side);
      }
    }
    context.globalAlpha = 1;
    state.labels = [];
    if (state.column.kind === "categories") drawLabels();
    if (state.found >= 0) drawRing(state.found, radius);
    if (state.lasso?.length) drawLasso();
  }
  function drawPicture() {
    const { picture, image } = state.layout;
    if (!picture?.complete) return;
    const [[left, top], [right, bottom]] = [onScreen(0, 0), onScreen(image.width, image.height)];
    context.globalAlpha = 0.6;
    context.drawImage(picture, left, top, right - left, bottom - top);
    context.globalAlpha = 1;
  }
  function drawLasso() {
    context.lineWidth = 2;
    context.strokeStyle = page.ink;
    context.setLineDash([6, 4]);
    context.beginPath();
    state.lasso.forEach(({ x, y }) => context.lineTo(x, y));
    context.closePath();
    context.stroke();
    context.setLineDash([]);
  }
  function drawRing(i, radius) {
    context.lineWidth = 2.5;
    context.strokeStyle = page.ink;
    context.beginPath();
    context.arc(...screen(i), radius + 5, 0, 2 * Math.PI);
    context.stroke();
  }

  /** The cell of each group nearest to the group's median: a position that is never outside its cells. */
  function anchors(column) {
    const members = column.badges.map(() => []);
    column.values.forEach((code, i) => members[code]?.push(i));
    const median = (list, k) => list.map((i) => coordinates[2 * i + k]).sort((a, b) => a - b)[list.length >> 1];
    return members.map((list) => {
      if (!list.length) return -1;
      const [x, y] = [median(list, 0), median(list, 1)];
      const [wide, high] = [bounds.x[1] - bounds.x[0] || 1, bounds.y[1] - bounds.y[0] || 1];
      const away = (i) => ((coordinates[2 * i] - x) / wide) ** 2 + ((coordinates[2 * i + 1] - y) / high) ** 2;
      return list.reduce((best, i) => (away(i) < away(best) ? i : best));
    });
  }
  function drawLabels() {
    const column = state.column;
    if (column.anchorsOf !== state.layout) Object.assign(column, { anchors: anchors(column), anchorsOf: state.layout });
    context.font = "700 13px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    const labels = column.anchors
      .map((i, group) => ({ text: labelText(column, group), group, i }))
      .filter(({ i, group }) => i >= 0 && (state.shown.size === 0 || state.shown.has(group)))
      .map((label) => {
        const [x, y] = screen(label.i);
        const width = Math.max(context.measureText(label.text).width + 10, 22);
        return { ...label, x, y: labelY(y, column.sizes[label.group]), width };
      });
    spread(labels);
    for (const label of labels) {
      const half = label.width / 2 + 2;
      if (label.x > 0 && label.x < state.width) label.x = Math.min(Math.max(label.x, half), state.width - half);
    }
    if (column === clusters) state.labels = labels;
    for (const { text, x, y, group, width } of labels) {
      context.beginPath();
      context.roundRect(x - width / 2, y - 10, width, 20, 6);
      context.fillStyle = column.colors[group];
      context.fill();
      context.lineWidth = 2;
      context.strokeStyle = page.plot;
      context.stroke();
      context.fillStyle = column.inks[group];
      context.fillText(text, x, y + 1);
    }
  }
  /** The badge, and what the group is called, shortened. */
  function labelText(column, group) {
    const [badge, title] = [column.badges[group], column.titles?.[group]];
    if (!state.names || !title || state.width < 500) return badge;
    return `${badge} ${title.length > 26 ? `${title.slice(0, 25)}…` : title}`;
  }
  /** The label of a small group is beside it: above, or below where that would leave the map. */
  function labelY(y, size) {
    if (size >= SMALL_GROUP) return y;
    return y >= 32 || y < 0 ? y - 20 : y + 20;
  }
  /** Push labels apart until none covers another, or 40 rounds have passed. */
  function spread(labels) {
    for (let round = 0; round < 40; round += 1) {
      let moved = false;
      for (let a = 0; a < labels.length; a += 1) {
        for (let b = a + 1; b < labels.length; b += 1) {
          const [dx, dy] = [labels[b].x - labels[a].x, labels[b].y - labels[a].y];
          const [overX, overY] = [(labels[a].width + labels[b].width) / 2 + 5 - Math.abs(dx), 23 - Math.abs(dy)];
          if (overX <= 0 || overY <= 0) continue;
          moved = true;
          const axis = overX < overY ? "x" : "y";
          const step = (Math.min(overX, overY) / 2 + 0.5) * ((axis === "x" ? dx : dy) < 0 ? -1 : 1);
          labels[a][axis] -= step;
          labels[b][axis] += step;
        }
      }
      if (!moved) return;
    }
  }

  // moving about
  function zoomAt(factor, x = state.width / 2, y = state.height / 2) {
    const zoom = Math.min(Math.max(state.zoom * factor, 1), 60);
    state.x = x - ((x - state.x) * zoom) / state.zoom;
    state.y = y - ((y - state.y) * zoom) / state.zoom;
    state.zoom = zoom;
    moveBy(0, 0);
  }
  function moveBy(dx, dy) {
    const slack = (size) => size * (state.zoom - 1);
    state.x = Math.min(Math.max(state.x + dx, -slack(state.width)), 0);
    state.y = Math.min(Math.max(state.y + dy, -slack(state.height)), 0);
    canvas.classList.toggle("zoomed", state.zoom > 1);
    tooltip.hidden = true;
    redraw();
  }
  function reset() {
    Object.assign(state, { zoom: 1, x: 0, y: 0 });
    moveBy(0, 0);
  }
  let waiting = false;
  function redraw() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  }

  const pointers = new Map();
  const spot = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left - canvas.clientLeft, y: event.clientY - box.top - canvas.clientTop };
  };
  canvas.addEventListener("pointerdown", (event) => {
    pointers.set(event.pointerId, spot(event));
    canvas.setPointerCapture(event.pointerId);
    state.pressed = spot(event);
    if (state.lasso) state.lasso = [spot(event)];
    if (event.pointerType !== "mouse") point(spot(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = spot(event);
    const before = pointers.get(event.pointerId);
    if (!before) {
      point(now);
      return;
    }
    pointers.set(event.pointerId, now);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (state.lasso) {
      state.lasso.push(now);
      redraw();
    } else if (other) {
      const gap = (a) => Math.max(Math.hypot(a.x - other.x, a.y - other.y), 1);
      zoomAt(gap(now) / gap(before), (now.x + other.x) / 2, (now.y + other.y) / 2);
    } else if (now.x !== before.x || now.y !== before.y) {
      canvas.classList.add("dragging");
      moveBy(now.x - before.x, now.y - before.y);
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      if (name === "pointerup" && pointers.has(event.pointerId)) released(spot(event));
      pointers.delete(event.pointerId);
      canvas.classList.remove("dragging");
    });
  }
  /** The end of a lasso selects the cells in it; a click on a label, not a drag, leads to its card. */
  function released({ x, y }) {
    if (state.lasso) {
      const path = new Path2D();
      state.lasso.forEach((corner) => path.lineTo(corner.x, corner.y));
      context.setTransform(1, 0, 0, 1, 0, 0);
      choose(Array.from({ length: nDrawn }, (_, i) => isShown(i) && context.isPointInPath(path, ...screen(i))));
      setLasso(false);
      return;
    }
    if (Math.hypot(x - state.pressed.x, y - state.pressed.y) > 4) return;
    const label = state.labels.findLast((one) => Math.abs(one.x - x) <= one.width / 2 && Math.abs(one.y - y) <= 10);
    if (label) byId(`cluster-${label.group}`)?.scrollIntoView();
  }
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") tooltip.hidden = true;
  });
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas && !event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    const { x, y } = spot(event);
    zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), x, y);
  }, { passive: false });
  canvas.addEventListener("dblclick", (event) => zoomAt(2, spot(event).x, spot(event).y));
  const KEYS = {
    ArrowLeft: () => moveBy(40, 0), ArrowRight: () => moveBy(-40, 0), ArrowUp: () => moveBy(0, 40), ArrowDown: () => moveBy(0, -40),
    "+": () => zoomAt(1.4), "=": () => zoomAt(1.4), "-": () => zoomAt(1 / 1.4), 0: reset, Escape: () => (state.lasso ? setLasso(false) : showOnly(null)),
  };
  canvas.addEventListener("keydown", (event) => {
    if (!Object.hasOwn(KEYS, event.key) || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    KEYS[event.key]();
  });
  byId("zoom-in").addEventListener("click", () => zoomAt(1.6));
  byId("zoom-out").addEventListener("click", () => zoomAt(1 / 1.6));
  byId("zoom-reset").addEventListener("click", reset);

  // one cell
  function valueInWords(column, i) {
    if (column.kind === "numbers") return plain(column.values[i]);
    const code = column.values[i];
    return column.titles?.[code] ? `${column.names[code]}, ${column.titles[code]}` : column.names[code];
  }
  function describe(i) {
    const shown = columns.filter((column, at) => at === 0 || column.name === "confidence");
    if (!shown.includes(state.column)) shown.push(state.column);
    return [ids[i], ...shown.map((column) => `${label(column)}: ${valueInWords(column, i)}`)];
  }
  function nearest(x, y) {
    let [best, least] = [-1, (pointRadius() + 6) ** 2];
    for (let i = 0; i < nDrawn; i += 1) {
      const [left, top] = screen(i);
      const away = (left - x) ** 2 + (top - y) ** 2;
      if (away < least && isShown(i)) [best, least] = [i, away];
    }
    return best;
  }
  function point({ x, y }) {
    const i = nearest(x, y);
    tooltip.hidden = i < 0;
    if (i < 0) return;
    tooltip.replaceChildren(...describe(i).map((line) => Object.assign(document.createElement("p"), { textContent: line })));
    const left = x + 16 + tooltip.offsetWidth < state.width ? x + 16 : Math.max(x - 16 - tooltip.offsetWidth, 0);
    const top = y + 16 + tooltip.offsetHeight < state.height ? y + 16 : Math.max(y - 16 - tooltip.offsetHeight, 0);
    tooltip.style.transform = `translate(${left}px, ${top}px)`;
  }
  byId("find-cell").addEventListener("input", (event) => {
    const asked = event.target.value.trim();
    state.found = asked ? ids.indexOf(asked) : -1;
    if (asked && state.found < 0) {
      const starts = ids.reduce((found, id, i) => (id.startsWith(asked) ? [...found.slice(0, 2), i] : found), []);
      if (starts.length === 1) [state.found] = starts;
      else byId("plot-status").textContent = starts.length ? "Several cells begin like this." : "No cell of this id is drawn.";
    }
    if (state.found >= 0) byId("plot-status").textContent = describe(state.found).join(" · ");
    if (!asked) byId("plot-status").textContent = "";
    redraw();
  });

  // legend
  function element(tag, className, text) {
    return Object.assign(document.createElement(tag), { className, textContent: text });
  }
  function legendButton(column, group) {
    const button = element("button", "", "");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    const swatch = element("span", "swatch", column.badges[group]);
    swatch.style.background = column.colors[group];
    swatch.style.color = column.inks[group];
    const isNamed = column.badges[group] !== column.names[group];
    const text = column.titles?.[group] ?? (isNamed ? column.names[group] : "");
    button.append(swatch, element("span", "legend-name", text), element("span", "legend-count", column.sizes[group].toLocaleString("en")));
    button.setAttribute("aria-label", `${column.name} ${column.names[group]} ${column.titles?.[group] ?? ""}, ${column.sizes[group]} cells`);
    button.addEventListener("click", () => showOnly(group));
    return button;
  }
  function scaleLegend(column, { colors, low, high, isCut, nMissing }) {
    const strip = Object.assign(document.createElement("canvas"), { width: STEPS, height: 1 });
    strip.setAttribute("role", "img");
    strip.setAttribute("aria-label", `Color scale from ${plain(low)} to ${plain(high)}`);
    const brush = strip.getContext("2d");
    colors.slice(0, STEPS).forEach((color, step) => {
      brush.fillStyle = color;
      brush.fillRect(step, 0, 1, 1);
    });
    const ends = element("div", "scale-ends", "");
    ends.append(element("span", "", (isCut.low ? "≤ " : "") + plain(low)), element("span", "", (isCut.high ? "≥ " : "") + plain(high)));
    const missing = nMissing ? [element("p", "small", `${nMissing.toLocaleString("en")} cells without a value are gray.`)] : [];
    const nExpressing = column.values.filter((value) => value > 0).length;
    const share = `${nExpressing.toLocaleString("en")} of ${nDrawn.toLocaleString("en")} cells express it; they are drawn on top.`;
    return [strip, ends, ...missing, ...(column.isGene ? [element("p", "small", share)] : [])];
  }
  function showOnly(group) {
    if (group === null) state.shown.clear();
    else if (!state.shown.delete(group)) state.shown.add(group);
    byId("show-all").hidden = state.shown.size === 0;
    if (state.column.kind === "categories") {
      [...byId("legend").querySelectorAll("button")].forEach((button, at) => button.setAttribute("aria-pressed", String(state.shown.has(at))));
    }
    redraw();
  }
  byId("show-all").addEventListener("click", () => showOnly(null));

  function colorBy(column) {
    state.column = column;
    state.painted = paint(column);
    state.shown.clear();
    byId("show-all").hidden = true;
    byId("legend-title").textContent = label(column);
    byId("legend").classList.toggle("compact", column.kind === "categories" && !column.titles && column.badges.every((text, group) => text === column.names[group]));
    if (column.kind === "categories") {
      const nGray = column.names.length - column.colors.length - (column.n_none ? 1 : 0);
      const gray = nGray > 0 ? [element("p", "small", `${nGray.toLocaleString("en")} smaller groups are gray.`)] : [];
      const none = column.n_none ? [element("p", "small", `${column.n_none.toLocaleString("en")} cells without a cluster are gray.`)] : [];
      byId("legend").replaceChildren(...column.badges.map((_, group) => legendButton(column, group)), ...gray, ...none);
    } else {
      byId("legend").replaceChildren(...scaleLegend(column, state.painted));
    }
    showChoice(column);
    showSpread();
    redraw();
  }

  // one number in groups of cells: a violin a group; of a gene, of the cells that express it
  const MOST_VIOLINS = 120;
  const groupings = columns.filter(({ kind }) => kind === "categories");
  const [spreadBy, spreadAnd] = [byId("spread-by"), byId("spread-and")];
  for (const choice of [spreadBy, spreadAnd]) {
    groupings.forEach((column, at) => choice.add(new Option(label(column), String(at))));
    choice.addEventListener("change", () => showSpread());
  }
  function showSpread() {
    const column = state.column;
    byId("spread").hidden = column.kind !== "numbers";
    if (column.kind !== "numbers") return;
    const by = groupings[Number(spreadBy.value)];
    const and = spreadAnd.value && groupings[Number(spreadAnd.value)] !== by ? groupings[Number(spreadAnd.value)] : null;
    const groups = new Map();
    let [low, high] = [column.isGene ? 0 : Infinity, -Infinity];
    column.values.forEach((value, i) => {
      if (!Number.isFinite(value)) return;
      [low, high] = [Math.min(low, value), Math.max(high, value)];
      const key = by.values[i] * 1e6 + (and ? and.values[i] : 0);
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(value);
    });
    byId("spread-title").textContent = `${label(column)}: distribution`;
    byId("spread-axis").textContent = `${plain(low)} to ${plain(high)}${column.isGene ? ", cells that express it" : ""}`;
    const sorted = [...groups].sort(([a], [b]) => a - b).slice(0, MOST_VIOLINS);
    byId("spread-rows").replaceChildren(...sorted.map(([key, values]) => {
      const [first, second] = [Math.floor(key / 1e6), key % 1e6];
      const name = by.titles?.[first] ? `${by.names[first]} ${by.titles[first]}` : by.names[first];
      const shown = Float64Array.from(column.isGene ? values.filter((value) => value > 0) : values).sort();
      const all = Float64Array.from(values).sort();
      const above = all.filter((value) => value > 0).length / all.length;
      const row = element("tr", "", "");
      const head = element("th", "untrusted", and ? `${name} · ${and.names[second]}` : name);
      head.scope = "row";
      const drawing = element("td", "", "");
      drawing.append(violin(shown, [low, high], (and ?? by).colors[and ? second : first] ?? page.muted));
      const figures = [`${(100 * above).toFixed(1)} %`, plain(all.reduce((sum, value) => sum + value, 0) / all.length), plain(all[all.length >> 1]), all.length.toLocaleString("en")];
      row.append(head, drawing, ...figures.map((text) => element("td", "number", text)));
      return row;
    }));
  }
  function violin(sorted, range, color) {
    const [width, height, nBins] = [320, 26, 40];
    const shape = (name, attributes) => {
      const made = document.createElementNS(document.querySelector("svg").namespaceURI, name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      return made;
    };
    const drawing = shape("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    if (!sorted.length) return drawing;
    const x = (part) => 6 + (width - 12) * part;
    const counts = new Float64Array(nBins + 2); // an empty bin at either end
    for (const value of sorted) counts[1 + Math.min(Math.floor(share(value, range) * nBins), nBins - 1)] += 1;
    const smooth = counts.map((n, at) => ((counts[at - 1] ?? 0) + 2 * n + (counts[at + 1] ?? 0)) / 4);
    const most = smooth.reduce((a, b) => Math.max(a, b), 0);
    const edge = (sign) => Array.from(smooth, (n, at) => `${x((at - 0.5) / nBins).toFixed(1)} ${(height / 2 + (sign * (height / 2 - 1) * n) / most).toFixed(1)}`);
    const [lower, middle, upper] = [0.25, 0.5, 0.75].map((part) => x(share(sorted[Math.round(part * (sorted.length - 1))], range)));
    drawing.append(
      shape("path", { class: "violin", fill: color, d: `M${[...edge(-1), ...edge(1).reverse()].join("L")}Z` }),
      shape("line", { class: "violin-box", x1: lower, x2: upper, y1: height / 2, y2: height / 2 }),
      shape("circle", { class: "violin-median", cx: middle, cy: height / 2, r: 3 }),
    );
    return drawing;
  }

  // which map
  byId("layout")?.addEventListener("change", (event) => {
    state.layout = layouts[Number(event.target.value)];
    ({ coordinates, bounds } = state.layout);
    byId("layout-name").textContent = state.layout.name;
    reset();
  });
  byId("names")?.addEventListener("click", (event) => {
    state.names = !state.names;
    event.target.setAttribute("aria-pressed", String(state.names));
    redraw();
  });

  // cells that are selected, and what marks them
  const MOST_QUICK_MARKERS = 15;
  function setLasso(on) {
    state.lasso = on ? [] : null;
    byId("lasso").setAttribute("aria-pressed", String(on));
    canvas.classList.toggle("lasso", on);
    redraw();
  }
  byId("lasso").addEventListener("click", () => {
    if (!state.shown.size) setLasso(!state.lasso);
    else choose(Array.from({ length: nDrawn }, (_, i) => isShown(i)));
  });
  byId("selection-close").addEventListener("click", () => choose([]));
  function choose(inside) {
    const n = inside.filter(Boolean).length;
    byId("selection").hidden = n === 0;
    state.selected = n ? inside : null;
    byId("plot-status").textContent = n || !inside.length ? "" : "No cell is selected.";
    if (!n) return;
    byId("selection-title").textContent = `${n.toLocaleString("en")} cell${n === 1 ? "" : "s"} selected`;
    const sizes = new Map();
    inside.forEach((is, i) => is && sizes.set(clusters.values[i], (sizes.get(clusters.values[i]) ?? 0) + 1));
    const named = (code) => clusters.titles?.[code] ?? clusters.names[code];
    const parts = [...sizes].sort((a, b) => b[1] - a[1]).map(([code, size]) => `${named(code)} ${size.toLocaleString("en")}`);
    byId("selection-clusters").textContent = `Clusters: ${parts.join(", ")}.`;
    byId("selection-markers")?.replaceChildren(...quickMarkers(inside, n).map(markerRow));
  }
  /** Mean, variance and share of expressing cells among n, from sums over those that express a gene. */
  const moments = ({ sum, squares, cells }, n) => ({ mean: sum / n, variance: Math.max(squares / n - (sum / n) ** 2, 0), share: cells / n });
  function quickMarkers(inside, n) {
    if (n < 2 || n > nDrawn - 2) return [];
    const found = payload.genes.map((gene) => {
      const sums = [{ sum: 0, squares: 0, cells: 0 }, { sum: 0, squares: 0, cells: 0 }];
      eachLevel(gene, (i, level) => {
        const side = sums[inside[i] ? 1 : 0];
        side.sum += level;
        side.squares += level * level;
        side.cells += 1;
      });
      const [rest, own] = [moments(sums[0], nDrawn - n), moments(sums[1], n)];
      const t = (own.mean - rest.mean) / Math.sqrt(own.variance / n + rest.variance / (nDrawn - n) + 1e-9);
      return { name: gene.name, own, rest, t };
    });
    return found.filter(({ t }) => t > 0).sort((a, b) => b.t - a.t).slice(0, MOST_QUICK_MARKERS);
  }
  function markerRow({ name, own, rest }) {
    const row = document.createElement("tr");
    const head = element("th", "", "");
    head.scope = "row";
    const button = element("button", "", name);
    button.type = "button";
    button.addEventListener("click", () => colorByGene(name));
    head.append(button);
    const percent = (part) => `${(100 * part).toFixed(1)} %`;
    const figures = [percent(own.share), percent(rest.share), plain(own.mean), plain(rest.mean)];
    row.append(head, ...figures.map((text) => element("td", "number", text)));
    return row;
  }

  // what colors the map: a column, or a gene
  const select = byId("color-by");
  const geneField = byId("gene");
  const geneChoice = new Option("", "gene");
  function label(column) {
    return column.query ? `“${column.query}”` : column.name;
  }
  function fillSelect() {
    const first = payload.is_run ? "This run" : "Clusters";
    const groups = { [first]: [], "Text queries": [], "Groups in obs": [], "Quality of the cells": [], "Numbers in obs": [] };
    const groupOf = (column, at) => {
      if (at === 0 || (at === 1 && payload.is_run && column.name === "confidence")) return first;
      if (column.query) return "Text queries";
      if (column.is_quality) return "Quality of the cells";
      return column.kind === "categories" ? "Groups in obs" : "Numbers in obs";
    };
    columns.forEach((column, at) => groups[groupOf(column, at)].push(new Option(label(column), String(at))));
    for (const [name, options] of Object.entries(groups)) {
      if (!options.length) continue;
      const group = Object.assign(document.createElement("optgroup"), { label: name });
      group.append(...options);
      select.append(group);
    }
  }
  function showChoice(column) {
    geneChoice.remove();
    if (column.isGene || column.isCut) {
      geneChoice.textContent = column.isGene ? `gene ${column.name}` : column.name;
      select.append(geneChoice);
      select.value = "gene";
    } else {
      select.value = String(columns.indexOf(column));
    }
    if (geneField && geneField.value !== column.name) geneField.value = column.isGene ? column.name : "";
    document.querySelectorAll("[data-gene] button").forEach((chip) => {
      chip.setAttribute("aria-pressed", String(column.isGene === true && chip.textContent === column.name));
    });
  }
  function colorByGene(name) {
    colorBy(geneColumn(genes.get(name)));
    byId("plot-status").textContent = `The map shows the expression of ${name}.`;
  }
  const spelt = new Map(); // names of genes to choose from, by their small letters
  let ask = null; // for a gene that this page does not hold
  function offerGenes(names) {
    for (const name of names) spelt.set(name.toLowerCase(), name);
    byId("genes").replaceChildren(...[...spelt.values()].sort().map((name) => new Option(name, name)));
  }
  fillSelect();
  select.addEventListener("change", () => {
    if (select.value === "0" && payload.tree) cutTree(clusters.badges.length);
    else if (select.value !== "gene") colorBy(columns[Number(select.value)]);
  });
  if (geneField) {
    offerGenes([...genes.keys()]);
    const take = () => {
      const name = spelt.get(geneField.value.trim().toLowerCase());
      if (genes.has(name)) colorByGene(name);
      else if (name) ask(name);
      return name;
    };
    geneField.addEventListener("input", take);
    geneField.addEventListener("change", () => {
      if (geneField.value.trim() && !take()) byId("plot-status").textContent = `${geneField.value.trim()} is not among the ${spelt.size} genes of this page.`;
    });
  }
  for (const chip of document.querySelectorAll("[data-gene]")) {
    const name = chip.dataset.gene;
    if (!genes.has(name)) continue;
    const button = element("button", "", name);
    button.type = "button";
    button.title = `Color the map by ${name}`;
    button.addEventListener("click", () => showOnMap(name));
    chip.replaceChildren(button);
  }
  function showOnMap(name) {
    colorByGene(name);
    byId("map").scrollIntoView();
  }
  for (const chip of document.querySelectorAll("[data-color]")) {
    const button = element("button", "", chip.textContent);
    button.type = "button";
    button.addEventListener("click", () => {
      colorBy(columns.find(({ name }) => name === chip.dataset.color));
      byId("map").scrollIntoView();
    });
    chip.replaceChildren(button);
  }

  // tree of the clusters: a cut is a column of groups, each in the color of its first cluster
  const allBelow = ([left, right]) => [...left, ...right].sort((a, b) => a - b);
  function groupsOf(nGroups) {
    let groups = [allBelow(payload.tree.splits[0])];
    for (const split of payload.tree.splits.slice(0, nGroups - 1)) {
      const whole = String(allBelow(split));
      groups = [...groups.filter((group) => String(group) !== whole), ...split];
    }
    return groups.sort((a, b) => a[0] - b[0]);
  }
  function cutColumn(groups, groupOf) {
    const none = clusters.n_none ? [groups.length] : [];
    const of = (list, all) => [...groups.map(all), ...none.map(() => list[list.length - 1])];
    const titles = groups.map((group) => payload.tree.names[group] ?? (group.length === 1 ? clusters.titles?.[group[0]] : "") ?? "");
    return {
      name: `tree: ${groups.length} group${groups.length === 1 ? "" : "s"}`, kind: "categories", isCut: true, n_none: clusters.n_none,
      names: of(clusters.names, (group) => group.map((one) => clusters.names[one]).join("+")),
      sizes: of(clusters.sizes, (group) => group.reduce((sum, one) => sum + clusters.sizes[one], 0)),
      titles: titles.some(Boolean) ? titles : undefined,
      badges: groups.map((group) => clusters.badges[group[0]] + (group.length > 1 ? "+" : "")),
      colors: groups.map(([first]) => clusters.colors[first] ?? page.muted),
      inks: groups.map(([first]) => clusters.inks[first] ?? page.ink),
      values: clusters.values.map((code) => groupOf[code] ?? groups.length),
    };
  }
  function cutTree(nGroups) {
    const groups = groupsOf(nGroups);
    const groupOf = [];
    groups.forEach((group, at) => group.forEach((one) => { groupOf[one] = at; }));
    const column = cutColumn(groups, groupOf);
    colorBy(nGroups === groupOf.length ? clusters : column);
    const words = column.names.map((name, at) => (column.titles?.[at] ? `${name} (${column.titles[at]})` : name)).slice(0, nGroups);
    byId("tree-cut").value = byId("tree-n").textContent = nGroups;
    byId("tree-status").textContent = `${nGroups} group${nGroups === 1 ? "" : "s"}: ${words.join("; ")}.`;
    for (const mark of document.querySelectorAll("svg [data-cluster], svg.badge[data-cluster]")) {
      const at = groupOf[mark.dataset.cluster];
      mark.querySelector("rect").setAttribute("fill", column.colors[at]);
      mark.querySelector("text").setAttribute("fill", column.inks[at]);
    }
    for (const line of document.querySelectorAll(".in-group")) {
      const at = groupOf[line.dataset.cluster];
      line.hidden = groups[at].length === 1;
      line.textContent = `In group ${words[at]}`;
    }
    for (const branch of document.querySelectorAll(".branch")) {
      const below = new Set(branch.dataset.group.split(",").map((one) => groupOf[one]));
      branch.style.stroke = below.size === 1 ? column.colors[[...below][0]] : "";
    }
    const xs = [...document.querySelectorAll(".split .ground")].map((node) => node.cx.baseVal.value);
    const line = byId("cut-line");
    const x = ((xs[nGroups - 2] ?? xs[0] - 40) + (xs[nGroups - 1] ?? Number(line.dataset.right))) / 2;
    for (const name of ["x1", "x2"]) line.setAttribute(name, x);
    line.setAttribute("visibility", "visible");
  }
  if (payload.tree) {
    byId("tree-cut").addEventListener("input", (event) => cutTree(Number(event.target.value)));
    for (const button of document.querySelectorAll("[data-cut]")) {
      button.addEventListener("click", () => cutTree(Number(button.dataset.cut)));
    }
    for (const node of document.querySelectorAll(".split")) {
      const show = () => cutTree(Number(node.dataset.split) + 2);
      node.setAttribute("tabindex", "0");
      node.setAttribute("role", "button");
      node.addEventListener("click", show);
      node.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        show();
      });
    }
  }

  // dot plot
  const dotPlot = byId("dot-plot");
  if (dotPlot) {
    const dots = [...dotPlot.querySelectorAll(".mean")];
    const rows = byId("dot-table").tBodies[0].rows; // in the order of the dots
    const nGenes = dotPlot.querySelectorAll(".dot-gene").length;
    const ring = byId("dot-ring");
    let current = 0;
    const look = (at) => {
      current = at;
      const [cluster, gene, fraction, mean] = [...rows[at].cells].map((cell) => cell.textContent);
      for (const name of ["cx", "cy"]) ring.setAttribute(name, dots[at].getAttribute(name));
      ring.setAttribute("visibility", "visible");
      byId("dot-status").textContent = `${gene} in cluster ${cluster}: ${fraction} of its cells express it, mean ${mean}.`;
    };
    const under = (event) => {
      const box = dotPlot.getBoundingClientRect();
      const scale = dotPlot.viewBox.baseVal.width / box.width;
      const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
      return dots.findIndex((dot) => Math.abs(dot.cx.baseVal.value - x) <= 10 && Math.abs(dot.cy.baseVal.value - y) <= 10);
    };
    const show = () => {
      const gene = rows[current].cells[1].textContent;
      if (genes.has(gene)) showOnMap(gene);
    };
    const MOVES = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -nGenes, ArrowDown: nGenes };
    dotPlot.setAttribute("tabindex", "0");
    dotPlot.setAttribute("role", "application");
    dotPlot.addEventListener("pointermove", (event) => {
      const at = under(event);
      if (at >= 0) look(at);
    });
    dotPlot.addEventListener("click", (event) => {
      const at = under(event);
      if (at < 0) return;
      look(at);
      show();
    });
    dotPlot.addEventListener("focus", () => look(current));
    dotPlot.addEventListener("keydown", (event) => {
      if (event.key === "Enter") show();
      if (!Object.hasOwn(MOVES, event.key)) return;
      event.preventDefault();
      const to = current + MOVES[event.key];
      if (to < 0 || to >= dots.length) return;
      look(to);
      dots[to].scrollIntoView({ block: "nearest", inline: "center" });
    });
  }

  // downloads
  const field = (value) => String(value).replace(/[\t\r\n]+/g, " ");
  function cellText(cell) {
    return cell.querySelector("data")?.value ?? (cell.querySelector("[data-text]") ?? cell).textContent;
  }
  function tableRows(name) {
    const tables = [...document.querySelectorAll(`table[data-tsv="${name}"]`)];
    const prefixed = tables.some((table) => table.dataset.prefix !== undefined);
    const head = [...tables[0].tHead.rows[0].cells].map((cell) => cell.textContent);
    const rows = tables.flatMap((table) =>
      [...table.tBodies[0].rows].map((row) => [...(prefixed ? [table.dataset.prefix] : []), ...[...row.cells].map(cellText)]),
    );
    return [prefixed ? ["Cluster", ...head] : head, ...rows];
  }
  function fieldRows(name, head) {
    const rows = [...document.querySelectorAll(`[data-tsv-row="${name}"]`)];
    return [JSON.parse(head), ...rows.map((row) => JSON.parse(row.dataset.fields))];
  }
  /** The shortest decimal that is this 32-bit number. */
  function shortest(value) {
    for (let digits = 6; digits < 9; digits += 1) {
      const short = Number(value.toPrecision(digits));
      if (Math.fround(short) === value) return short;
    }
    return value;
  }
  function cellRows() {
    const value = (column, i) => {
      if (column.kind === "categories") return column.names[column.values[i]];
      return Number.isFinite(column.values[i]) ? shortest(column.values[i]) : "";
    };
    return [
      ["Cell", "x", "y", ...columns.map((column) => column.name)],
      ...ids.map((id, i) => [id, shortest(coordinates[2 * i]), shortest(coordinates[2 * i + 1]), ...columns.map((column) => value(column, i))]),
    ];
  }
  function tsv(name, head) {
    const rows = name === "cells" ? cellRows() : head ? fieldRows(name, head) : tableRows(name);
    return rows.map((row) => row.map(field).join("\t")).join("\n") + "\n";
  }
  function save(blob, name) {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  }
  for (const button of document.querySelectorAll("[data-download]")) {
    const name = button.dataset.download;
    button.addEventListener("click", () => save(new Blob([tsv(name, button.dataset.head)], { type: "text/tab-separated-values" }), `${name}.tsv`));
  }
  byId("selection-save").addEventListener("click", () => {
    const [head, ...rows] = cellRows();
    const chosen = [head, ...rows.filter((_, i) => state.selected?.[i])].map((row) => row.map(field).join("\t"));
    save(new Blob([`${chosen.join("\n")}\n`], { type: "text/tab-separated-values" }), "selected.tsv");
  });
  byId("save-image").addEventListener("click", () => canvas.toBlob((blob) => save(blob, "cells.png")));

  // a link to what is folded opens it
  function openFolded() {
    byId(location.hash.slice(1))?.querySelector(":scope > details.expert")?.setAttribute("open", "");
  }
  addEventListener("hashchange", openFolded);
  openFolded();

  // page
  const themeButton = byId("theme");
  function showTheme() {
    const other = isDark() ? "light" : "dark";
    themeButton.textContent = other[0].toUpperCase() + other.slice(1);
    themeButton.title = `Switch to ${other} mode`;
    readPageColors();
    state.painted = paint(state.column);
    if (state.column.kind === "numbers") byId("legend").replaceChildren(...scaleLegend(state.column, state.painted));
    redraw();
  }
  themeButton.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((details) => { details.open = true; }));
  new ResizeObserver(redraw).observe(canvas);
  readPageColors();
  colorBy(clusters);
  showTheme();
  draw();

  root.dataset.ready = "true";
})();
