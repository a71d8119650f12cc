"use strict";
// The map: time to the right, address upwards. All numbers are exact; colours and pixels are not.
(async () => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const { columns, rows, regions } = data;
  const nColumns = columns.first.length, nRows = rows.length;
  const heat = byId("heat"), line = byId("line"), readout = byId("readout");
  const RIGHT = 10, BOTTOM = 24, TOP = 8; // CSS pixels around the plots
  let left = 168, isNarrow = false; // in a narrow window labels lie over the plots

  // ---- theme ------------------------------------------------------------------------------------
  const root = document.documentElement, theme = byId("theme");
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";
  const nameTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  theme.hidden = false;
  let recolour = nameTheme; // until there is a map
  recolour();
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; recolour(); });
  prefersDark.addEventListener("change", () => recolour());
  if (!nColumns || !nRows) return;

  // ---- the cells --------------------------------------------------------------------------------
  // Bytes of the counts: all lowest ones, all second ones, ..., deflated, in base64.
  async function unpack(text, n) {
    const packed = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
    const planes = new Uint8Array(await new Response(stream).arrayBuffer());
    const counts = new Float64Array(n);
    for (let plane = 0, unit = 1; plane < planes.length; plane += n, unit *= 256)
      for (let i = 0; i < n; i++) counts[i] += planes[plane + i] * unit;
    return counts;
  }

  let dirty;
  try {
    dirty = await unpack(data.cells, nRows * nColumns);
  } catch (error) {
    byId("explorer").replaceWith(
      `The map cannot be shown: this browser does not read its data (${error}). A newer one does.`);
    return;
  }
  const levels = new Uint8Array(dirty.length); // 0 is clean; else 1 to 255 by the share's root
  for (let r = 0, i = 0; r < nRows; r++)
    for (let c = 0; c < nColumns; c++, i++)
      if (dirty[i])
        levels[i] = Math.max(1, Math.ceil(255 * Math.sqrt(dirty[i] / (rows[r][3] * columns.n[c]))));
  const isWritten = rows.map((_, r) => levels.subarray(r * nColumns, (r + 1) * nColumns).some((level) => level));
  const written = [Math.max(isWritten.indexOf(true), 0), isWritten.lastIndexOf(true) + 1 || nRows];
  const rates = columns.bytes.map((bytes, c) => bytes / columns.duration[c]);
  const endS = columns.end[nColumns - 1];

  // ---- view and cursor --------------------------------------------------------------------------
  const all = () => ({ t0: 0, t1: endS, y0: 0, y1: nRows });
  let view = all(), cursor = null, frame = 0;
  const leastS = Math.min(...columns.end.map((end, c) => end - columns.start[c]));

  function redraw() {
    frame ||= requestAnimationFrame(() => { frame = 0; drawHeat(); drawLine(); });
  }

  const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

  function show(t0, t1, y0, y1) {
    const spanT = clamp(t1 - t0, Math.min(4 * leastS, endS), endS);
    const spanY = clamp(y1 - y0, Math.min(4, nRows), nRows);
    t0 = clamp((t0 + t1 - spanT) / 2, 0, endS - spanT);
    y0 = clamp((y0 + y1 - spanY) / 2, 0, nRows - spanY);
    view = { t0, t1: t0 + spanT, y0, y1: y0 + spanY };
    redraw();
  }

  function zoom(factor, t, y) {
    const { t0, t1, y0, y1 } = view;
    show(t - (t - t0) * factor, t + (t1 - t) * factor, y - (y - y0) * factor, y + (y1 - y) * factor);
  }

  const centre = () => cursor
    ? [(columns.start[cursor.column] + columns.end[cursor.column]) / 2, cursor.row + 0.5]
    : [(view.t0 + view.t1) / 2, (view.y0 + view.y1) / 2];

  /** First column whose `edges` are above t. */
  function after(edges, t) {
    let low = 0, high = nColumns;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (edges[middle] > t) high = middle; else low = middle + 1;
    }
    return low;
  }

  // ---- drawing ----------------------------------------------------------------------------------
  let colours;
  function readColours() {
    const style = getComputedStyle(root), get = (name) => style.getPropertyValue(name).trim();
    const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    const stops = get("--ramp").split(",").map((stop) => rgb(stop.trim()));
    const word = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0;
    const table = Uint32Array.from({ length: 256 }, (_, level) => {
      const at = level / 255 * (stops.length - 1), from = Math.min(Math.floor(at), stops.length - 2);
      return word(stops[from].map((x, i) => Math.round(x + (stops[from + 1][i] - x) * (at - from))));
    });
    table[0] = word(rgb(get("--clean")));
    colours = { table, gap: word(rgb(get("--gap"))) };
    for (const name of ["card", "ink", "soft", "line", "cursor", "bar", "mark"]) colours[name] = get(`--${name}`);
  }

  function prepare(canvas) {
    const scale = devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    const width = Math.round(box.width * scale), height = Math.round(box.height * scale);
    isNarrow = box.width < 560;
    left = isNarrow ? 8 : 168;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const pen = canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, width, height);
    pen.font = "12px system-ui, 'DejaVu Sans', sans-serif";
    return { pen, scale, width: box.width, height: box.height, plot: Math.max(box.width - left - RIGHT, 10) };
  }

  const xOf = (t, plot) => left + (t - view.t0) / (view.t1 - view.t0) * plot;
  const yOf = (row, height) => TOP + (view.y1 - row) / (view.y1 - view.y0) * (height - 2 * TOP);

  function drawHeat() {
    const { pen, scale, width, height, plot } = prepare(heat);
    const w = Math.round(plot * scale), h = Math.round((height - 2 * TOP) * scale);
    const image = pen.createImageData(w, h), pixels = new Uint32Array(image.data.buffer);
    const spanT = (view.t1 - view.t0) / w, spanY = (view.y1 - view.y0) / h;
    const from = new Int32Array(w), to = new Int32Array(w);
    for (let x = 0; x < w; x++) {
      from[x] = after(columns.end, view.t0 + x * spanT);
      to[x] = after(columns.start, view.t0 + (x + 1) * spanT - spanT * 1e-6);
    }
    for (let y = 0, i = 0; y < h; y++) {
      const low = clamp(Math.floor(view.y1 - (y + 1) * spanY + 1e-9), 0, nRows - 1);
      const high = clamp(Math.ceil(view.y1 - y * spanY - 1e-9), low + 1, nRows);
      for (let x = 0; x < w; x++, i++) {
        let most = from[x] < to[x] ? 0 : -1; // the highest of what a pixel covers: nothing is lost
        for (let r = low; r < high; r++)
          for (let c = from[x], at = r * nColumns + c; c < to[x]; c++, at++)
            if (levels[at] > most) most = levels[at];
        pixels[i] = most < 0 ? colours.gap : colours.table[most];
      }
    }
    pen.putImageData(image, Math.round(left * scale), Math.round(TOP * scale));
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    drawAddresses(pen, width, height);
    drawPasses(pen, plot, TOP, height - TOP);
    if (cursor) {
      pen.strokeStyle = colours.cursor;
      pen.lineWidth = 2;
      const x = xOf(columns.start[cursor.column], plot), end = xOf(columns.end[cursor.column], plot);
      const y = yOf(cursor.row + 1, height), low = yOf(cursor.row, height);
      pen.save();
      pen.beginPath();
      pen.rect(left - 2, 0, plot + 4, height);
      pen.clip();
      pen.strokeRect(x - 1, y - 1, Math.max(end - x, 3) + 2, Math.max(low - y, 3) + 2);
      pen.globalAlpha = 0.55;
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo((x + end) / 2, 0); pen.lineTo((x + end) / 2, height);
      pen.moveTo(left, (y + low) / 2); pen.lineTo(left + plot, (y + low) / 2);
      pen.stroke();
      pen.restore();
    }
  }

  const hex = (address) => `0x${address.toString(16)}`;
  const addressOf = (row) => {
    const [region, group] = rows[row], { address, pageSize } = regions[region];
    return BigInt(address) + BigInt(group) * BigInt(data.groupPages) * BigInt(pageSize);
  };

  function drawAddresses(pen, width, height) {
    const first = clamp(Math.floor(view.y0), 0, nRows - 1), last = clamp(Math.ceil(view.y1), 1, nRows);
    pen.textBaseline = "middle";
    let before = height + 99; // where the last name was put
    for (let row = first; row < last;) {
      const region = rows[row][0];
      let end = row;
      while (end < last && rows[end][0] === region) end++;
      const low = clamp(yOf(row, height), TOP, height - TOP), high = clamp(yOf(end, height), TOP, height - TOP);
      pen.strokeStyle = colours.soft;
      pen.lineWidth = 1;
      pen.beginPath();
      pen.moveTo(left - 5, low - 0.5); pen.lineTo(left, low - 0.5); pen.lineTo(left, high + 0.5);
      pen.lineTo(left - 5, high + 0.5);
      pen.stroke();
      if (row > first) {
        pen.strokeStyle = colours.line;
        pen.beginPath();
        pen.moveTo(left, low); pen.lineTo(width - RIGHT, low);
        pen.stroke();
      }
      const middle = (low + high) / 2;
      if (before - middle >= 13) {
        pen.fillStyle = colours.ink;
        label(pen, regions[region].name, middle);
        before = middle;
      }
      pen.fillStyle = colours.soft;
      const step = Math.max(1, Math.ceil(64 / ((low - high) / (end - row))));
      for (let tick = row; tick < end && low - high > 90; tick += step) {
        const y = yOf(tick, height);
        if (Math.abs(y - middle) < 16 || y > height - TOP || y < TOP + 8) continue;
        if (row > first && low - y < 16 || end < last && y - high < 16) continue; // others' names
        label(pen, hex(addressOf(tick)), Math.min(y, height - TOP - 6));
      }
      row = end;
    }
    pen.strokeStyle = colours.soft;
    pen.setLineDash([2, 4]);
    for (let row = first; row < last; row++) {
      if (!rows[row][4]) continue;
      const y = (yOf(row, height) + yOf(row + 1, height)) / 2;
      pen.beginPath();
      pen.moveTo(left, y); pen.lineTo(width - RIGHT, y);
      pen.stroke();
    }
    pen.setLineDash([]);
  }

  /** To the left of a plot, or over it. */
  function label(pen, text, y) {
    pen.textAlign = isNarrow ? "left" : "right";
    const said = fit(pen, text, isNarrow ? 200 : left - 14), ink = pen.fillStyle;
    if (isNarrow) {
      pen.fillStyle = colours.card;
      pen.globalAlpha = 0.85;
      pen.fillRect(left + 5, y - 8, pen.measureText(said).width + 8, 16);
      pen.globalAlpha = 1;
      pen.fillStyle = ink;
    }
    pen.fillText(said, isNarrow ? left + 9 : left - 10, y);
  }

  function fit(pen, text, width) {
    if (pen.measureText(text).width <= width) return text;
    let letters = [...text];
    while (letters.length > 1 && pen.measureText(letters.join("") + "…").width > width) letters.pop();
    return letters.join("") + "…";
  }

  function drawPasses(pen, plot, top, bottom) {
    pen.strokeStyle = colours.mark;
    pen.lineWidth = 1;
    for (const pass of data.passes) {
      if (pass.at < view.t0 || pass.at > view.t1) continue;
      const x = Math.round(xOf(pass.at, plot)) + 0.5;
      pen.beginPath();
      pen.moveTo(x, top); pen.lineTo(x, bottom);
      pen.stroke();
    }
  }

  function drawLine() {
    const { pen, scale, width, height, plot } = prepare(line);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    const bottom = height - BOTTOM, top = 10, w = Math.floor(plot);
    const span = (view.t1 - view.t0) / w, tops = new Float64Array(w);
    let most = 0;
    for (let x = 0; x < w; x++) {
      const to = after(columns.start, view.t0 + (x + 1) * span - span * 1e-6);
      for (let c = after(columns.end, view.t0 + x * span); c < to; c++) tops[x] = Math.max(tops[x], rates[c]);
      most = Math.max(most, tops[x]);
    }
    for (const pass of data.passes)
      if (pass.at >= view.t0 && pass.at <= view.t1) most = Math.max(most, pass.bandwidth, pass.dirtyRate);
    most ||= 1;
    const y = (rate) => bottom - rate / most * (bottom - top);
    pen.fillStyle = colours.bar;
    for (let x = 0; x < w; x++) if (tops[x]) pen.fillRect(left + x, y(tops[x]), 1.02, Math.max(bottom - y(tops[x]), 0.7));
    drawPasses(pen, plot, 0, bottom);
    pen.fillStyle = pen.strokeStyle = colours.mark;
    let fromS = null;
    for (const pass of data.passes) {
      if (fromS !== null && pass.at >= view.t0 && fromS <= view.t1 && pass.bandwidth) {
        pen.setLineDash([5, 3]);
        pen.beginPath();
        pen.moveTo(clamp(xOf(fromS, plot), left, left + plot), y(pass.bandwidth));
        pen.lineTo(clamp(xOf(pass.at, plot), left, left + plot), y(pass.bandwidth));
        pen.stroke();
        pen.setLineDash([]);
      }
      fromS = pass.at;
      if (pass.at < view.t0 || pass.at > view.t1 || !pass.dirtyRate) continue;
      pen.beginPath();
      pen.arc(xOf(pass.at, plot), y(pass.dirtyRate), 3, 0, 7);
      pen.fill();
    }
    pen.strokeStyle = colours.soft;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(left - 0.5, top); pen.lineTo(left - 0.5, bottom + 0.5); pen.lineTo(width - RIGHT, bottom + 0.5);
    pen.stroke();
    pen.fillStyle = colours.soft;
    pen.textBaseline = "middle";
    label(pen, `${bytes(most)}/s`, top + 3);
    if (!isNarrow) label(pen, "0", bottom);
    pen.fillStyle = colours.ink;
    label(pen, "dirtied a second", (top + bottom) / 2);
    pen.fillStyle = colours.soft;
    pen.textBaseline = "top";
    const step = niceStep((view.t1 - view.t0) / Math.max(2, plot / 110));
    for (let k = Math.ceil(view.t0 / step); k * step <= view.t1 * (1 + 1e-9); k++) {
      const x = xOf(k * step, plot);
      pen.textAlign = x > width - RIGHT - 20 ? "right" : "center";
      pen.fillText(ticked(k * step, step), x, bottom + 6);
      pen.fillRect(x - 0.5, bottom, 1, 4);
    }
    if (cursor) {
      pen.fillStyle = colours.cursor;
      const x = xOf((columns.start[cursor.column] + columns.end[cursor.column]) / 2, plot);
      if (x >= left && x <= left + plot) pen.fillRect(x - 0.5, 0, 1, bottom);
    }
  }

  function niceStep(least) {
    const power = 10 ** Math.floor(Math.log10(least));
    return power * [1, 2, 5, 10].find((by) => by * power >= least);
  }

  const ticked = (t, step) => `${t.toFixed(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)))} s`;

  // ---- what the cursor is on --------------------------------------------------------------------
  function bytes(n) {
    for (const unit of ["B", "KiB", "MiB", "GiB"]) {
      if (n < 1024) return `${unit === "B" ? Math.round(n) : n.toFixed(1)} ${unit}`;
      n /= 1024;
    }
    return `${n.toFixed(1)} TiB`;
  }

  const whole = (n) => n.toLocaleString("en-GB");
  const percent = (share) => share === 0 ? "0 %" : share < 0.001 ? "under 0.1 %" : `${(100 * share).toFixed(1)} %`;
  const span = (first, last) => first === last ? `${first}` : `${first} to ${last}`;
  const several = (n, what) => `${what}${n === 1 ? "" : "s"}`;

  function tell(spoken) {
    readout.setAttribute("aria-live", spoken ? "polite" : "off");
    if (!cursor) {
      readout.textContent = "Point at a cell, or move the cursor with the arrow keys.";
      return;
    }
    const { row, column: c } = cursor;
    const [number, group, nGroups, nPages, isFolded] = rows[row], region = regions[number];
    const from = addressOf(row), to = from + BigInt(nPages) * BigInt(region.pageSize);
    const count = dirty[row * nColumns + c], n = columns.n[c];
    const where = document.createElement("strong");
    where.textContent = `${region.name}, ${several(nGroups, "group")} ${span(group, group + nGroups - 1)}`;
    const first = document.createElement("div"), second = document.createElement("div");
    const over = n === 1 ? "in this interval" : `an interval, ${whole(count)} summed over ${n} intervals`;
    const mean = n === 1 ? whole(count) : (count / n).toFixed(1);
    first.append(where, ` · ${hex(from)} to ${hex(to)} · ${mean} of ${whole(nPages)} pages dirty (${percent(count / n / nPages)}) ${over}${isFolded ? " · never written, folded" : ""}`);
    second.textContent =
      `${several(n, "interval")} ${span(columns.first[c], columns.last[c])} · ${columns.start[c].toFixed(3)} to ${columns.end[c].toFixed(3)} s · ` +
      `in all memory ${whole(columns.dirty[c])} pages dirty, ${whole(columns.redirtied[c])} redirtied, ${whole(columns.fresh[c])} fresh; ` +
      `${bytes(rates[c])}/s${n > 1 ? `, at most ${bytes(columns.peak[c])}/s` : ""}; ${n > 1 ? "at most " : ""}${whole(columns.active[c])} active groups` +
      (columns.lost[c] ? `; at least ${whole(columns.lost[c])} pages lost` : "");
    readout.replaceChildren(first, second);
  }

  function at(event) {
    const box = heat.getBoundingClientRect(), plot = Math.max(box.width - left - RIGHT, 10);
    const x = clamp((event.clientX - box.left - left) / plot, 0, 1);
    const y = clamp((event.clientY - box.top - TOP) / (box.height - 2 * TOP), 0, 1);
    return { t: view.t0 + x * (view.t1 - view.t0), y: view.y1 - y * (view.y1 - view.y0) };
  }

  function point(event, keepsRow) {
    const { t, y } = at(event);
    const column = clamp(after(columns.end, t), 0, nColumns - 1);
    const row = keepsRow ? (cursor?.row ?? 0) : clamp(Math.floor(y), 0, nRows - 1);
    cursor = { column, row };
    tell(false);
    redraw();
  }

  function reveal() {
    const { t0, t1, y0, y1 } = view, { row, column: c } = cursor;
    const left = Math.min(columns.start[c] - t0, 0), right = Math.max(columns.end[c] - t1, 0);
    const down = Math.min(row - y0, 0), up = Math.max(row + 1 - y1, 0);
    show(t0 + left + right, t1 + left + right, y0 + down + up, y1 + down + up);
  }

  function move(columnsBy, rowsBy) {
    const { t0, t1, y0, y1 } = view;
    cursor ??= { column: clamp(after(columns.end, (t0 + t1) / 2), 0, nColumns - 1), row: Math.floor((y0 + y1) / 2) };
    cursor = { column: clamp(cursor.column + columnsBy, 0, nColumns - 1), row: clamp(cursor.row + rowsBy, 0, nRows - 1) };
    tell(true);
    reveal();
  }

  const closer = (factor) => { zoom(factor, ...centre()); if (cursor) reveal(); };

  const actions = { in: () => closer(0.5), out: () => closer(2), all: () => { view = all(); redraw(); }, written: () => show(0, endS, ...written) };

  function press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = event.shiftKey ? 10 : 1, far = Math.ceil((view.y1 - view.y0) / 5);
    const keys = {
      ArrowLeft: () => move(-by, 0), ArrowRight: () => move(by, 0),
      ArrowUp: () => move(0, by), ArrowDown: () => move(0, -by),
      PageUp: () => move(0, far), PageDown: () => move(0, -far),
      Home: () => move(-nColumns, 0), End: () => move(nColumns, 0),
      "+": actions.in, "=": actions.in, "-": actions.out, "0": actions.all,
      Escape: () => { cursor = null; tell(true); redraw(); },
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  // ---- wiring -----------------------------------------------------------------------------------
  let drag = null;
  heat.addEventListener("keydown", press);
  heat.addEventListener("focus", () => { if (!cursor && heat.matches(":focus-visible")) move(0, 0); });
  heat.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, view };
    heat.setPointerCapture(event.pointerId);
  });
  heat.addEventListener("pointermove", (event) => {
    if (!drag) return point(event, false);
    const box = heat.getBoundingClientRect(), was = drag.view;
    const t = (event.clientX - drag.x) / (box.width - left - RIGHT) * (was.t1 - was.t0);
    const y = (event.clientY - drag.y) / (box.height - 2 * TOP) * (was.y1 - was.y0);
    show(was.t0 - t, was.t1 - t, was.y0 + y, was.y1 + y);
  });
  for (const over of ["pointerup", "pointercancel"]) heat.addEventListener(over, () => { drag = null; });
  line.addEventListener("pointermove", (event) => point(event, true));
  heat.addEventListener("dblclick", (event) => { const { t, y } = at(event); zoom(0.5, t, y); });
  heat.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && document.activeElement !== heat) return; // the page scrolls
    event.preventDefault();
    const { t, y } = at(event);
    zoom(Math.exp(clamp(event.deltaY, -300, 300) / 400), t, y);
  }, { passive: false });
  for (const button of document.querySelectorAll("[data-do]"))
    button.addEventListener("click", actions[button.dataset.do]);
  for (const button of document.querySelectorAll("[data-group]")) {
    button.disabled = false;
    button.addEventListener("click", () => {
      const region = Number(button.dataset.region), group = Number(button.dataset.group);
      const row = rows.findIndex(([of, first, n]) => of === region && first <= group && group < first + n);
      let column = nColumns - 1; // where it was last written
      while (column > 0 && !dirty[row * nColumns + column]) column--;
      cursor = { row, column };
      reveal();
      tell(true);
      heat.focus();
      heat.scrollIntoView({ block: "center" });
    });
  }
  recolour = () => { nameTheme(); readColours(); redraw(); };
  byId("explorer").hidden = false;
  new ResizeObserver(redraw).observe(heat);
  readColours();
  redraw();
})();
