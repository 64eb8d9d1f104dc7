
  // small maps: part of the page's script in a report with samples
  const smallMaps = [...document.querySelectorAll(".small-map canvas")];
  const units = payload.samples ? integers(payload.samples) : [];
  const before = { painted: null, layout: null, shown: "", side: 0, ratio: 0 };
  function drawSmallMaps() {
    const now = { painted: state.painted, layout: state.layout, shown: [...state.shown].join(), side: smallMaps[0]?.clientWidth ?? 0, ratio: window.devicePixelRatio || 1 };
    if (!now.side || Object.keys(now).every((name) => now[name] === before[name])) return; // the map was moved alone
    Object.assign(before, now);
    const radius = Math.min(Math.max((now.side / 900) ** 0.5 * (160 / Math.sqrt(nDrawn)), 0.9), 3);
    const brushes = state.painted.colors.map((color) => sprite(color, radius, now.ratio));
    const stamp = (brush, image, i) => {
      const at = (part) => 8 + part * (now.side - 16) - radius - 1;
      const [x, y] = inFrame(coordinates[2 * i], coordinates[2 * i + 1], now.side, now.side);
      brush.drawImage(image, at(x), at(y), 2 * (radius + 1), 2 * (radius + 1));
    };
    const ground = blank(document.createElement("canvas"), now);
    const gray = sprite(page.faded, radius, now.ratio);
    for (const i of state.painted.order) stamp(ground, gray, i);
    for (const small of smallMaps) {
      const brush = blank(small, now);
      brush.drawImage(ground.canvas, 0, 0, now.side, now.side);
      const unit = Number(small.dataset.unit);
      for (const i of state.painted.order) {
        if (units[i] === unit && isShown(i)) stamp(brush, brushes[state.painted.bin[i]], i);
      }
    }
  }
  function blank(small, { side, ratio }) {
    small.width = small.height = Math.round(side * ratio);
    const brush = small.getContext("2d");
    brush.scale(ratio, ratio);
    brush.fillStyle = page.plot;
    brush.fillRect(0, 0, side, side);
    return brush;
  }
  const drawMap = draw;
  draw = () => {
    drawMap();
    drawSmallMaps();
  };

  // samples stand next to the clusters in the choice of colors
  const sampleOption = select.querySelector(`option[value="${columns.findIndex(({ name }) => name === payload.sample_key)}"]`);
  if (sampleOption) {
    const group = sampleOption.parentElement;
    select.querySelector("optgroup").append(sampleOption);
    if (!group.children.length) group.remove();
  }
  drawSmallMaps();
