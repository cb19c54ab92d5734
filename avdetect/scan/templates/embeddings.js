"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  // One shape for each of the marks of the drawn pictures, about a point, some 14 units wide.
  const SHAPES = [
    "M6,0A6,6 0 1 1 -6,0A6,6 0 1 1 6,0Z", "M0,-7L7,6L-7,6Z", "M-6,-6H6V6H-6Z", "M0,7L7,-6L-7,-6Z",
    "M0,-8L6,0L0,8L-6,0Z", "M-2.5,-7H2.5V-2.5H7V2.5H2.5V7H-2.5V2.5H-7V-2.5H-2.5Z",
    "M-4,-7L0,-3L4,-7L7,-4L3,0L7,4L4,7L0,3L-4,7L-7,4L-3,0L-7,-4Z", "M-7,0L6,-7L6,7Z", "M7,0L-6,-7L-6,7Z",
    "M0,-8L2.1,-2.6L7.6,-2.5L3.2,0.9L4.7,6.5L0,3.3L-4.7,6.5L-3.2,0.9L-7.6,-2.5L-2.1,-2.6Z",
  ];
  const NAMES = { tsne: "t-SNE", pca: "PCA" };
  const REACH = 22; // CSS pixels from a pointer to the mark that it means
  const MARGIN = 40; // of the 1000 units of the plot
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const plot = at("plot"), ring = drawn("circle", { class: "ring", r: 12 });
  let map, places, marks, visible, current = -1, kept = false, unit = 1;

  function drawn(name, attributes) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  }

  function element(name, text) {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function fill(select, names) {
    const before = select.value;
    select.replaceChildren(...names.map(([value, text]) => new Option(text, value)));
    if (names.some(([value]) => value === before)) select.value = before;
    select.parentElement.hidden = names.length < 2;
  }

  function figure(value) {
    return value === null ? "not judged" : value.toFixed(2);
  }

  function told(point) {
    const method = point.method === null ? "" : `, ${point.method}`;
    return `${point.key}: ${point.label}${method}, score ${figure(point.score)}`;
  }

  function chooseMap() {
    map = data.maps[Number(at("encoder").value)];
    fill(at("projection"), ["tsne", "pca"].filter((name) => name in map.projections).map((name) => [name, NAMES[name]]));
    fill(at("colour"), Object.keys(map.groups).map((name) => [name, name]));
    marks = map.points.map((point) => {
      const group = drawn("g", { role: "button", tabindex: -1, "aria-label": told(point) });
      group.append(drawn("path", {}));
      return group;
    });
    plot.replaceChildren(...marks, ring);
    letGo();
    colour();
    place();
  }

  function colour() {
    const groups = map.groups[at("colour").value];
    visible = map.points.map(() => true);
    for (const group of groups)
      for (const index of group.of) {
        marks[index].setAttribute("class", `point m${group.mark}`);
        marks[index].firstChild.setAttribute("d", SHAPES[group.mark]);
      }
    at("groups").replaceChildren(...groups.map((group) => {
      const label = element("label"), box = element("input"), swatch = drawn("svg", { viewBox: "-9 -9 18 18", "aria-hidden": true });
      box.type = "checkbox";
      box.checked = true;
      box.addEventListener("change", () => show(group, box.checked));
      swatch.append(drawn("path", { class: `m${group.mark}`, d: SHAPES[group.mark] }));
      label.append(box, swatch, element("span", group.name), element("span", String(group.of.length)));
      return label;
    }));
    for (const group of groups) show(group, true);
  }

  function show(group, wanted) {
    for (const index of group.of) {
      visible[index] = wanted;
      marks[index].toggleAttribute("hidden", !wanted);
      marks[index].setAttribute("display", wanted ? "inline" : "none");
    }
    if (current >= 0 && !visible[current]) letGo();
    enter();
  }

  // One mark at a time is reached with Tab: the one looked at, else the first that is shown.
  function enter() {
    const first = current >= 0 ? current : visible.indexOf(true);
    marks.forEach((mark, index) => mark.setAttribute("tabindex", index === first ? 0 : -1));
  }

  function place() {
    const chosen = map.projections[at("projection").value];
    places = chosen.at.map(([x, y]) => [MARGIN + x * (1000 - 2 * MARGIN), MARGIN + y * (1000 - 2 * MARGIN)]);
    const axes = chosen.axes.filter(Boolean);
    at("axes").textContent = chosen.title + (axes.length ? `. Across: ${axes[0]}; up: ${axes[1]}.` : ".");
    plot.setAttribute("aria-label", `${map.points.length} clips by the ${map.name} encoder. ${chosen.title}`);
    size();
  }

  // Marks keep their size on the screen, however wide the plot is.
  function size() {
    const box = plot.getBoundingClientRect();
    unit = box.width ? 1000 / Math.min(box.width, box.height) : 1;
    const scale = unit * (map.points.length > 400 ? 0.7 : 0.9);
    marks.forEach((mark, index) => mark.setAttribute("transform", `translate(${places[index]}) scale(${scale})`));
    ring.setAttribute("r", 12 * unit);
    ring.setAttribute("stroke-width", unit);
    moveRing();
  }

  function moveRing() {
    ring.setAttribute("display", current < 0 ? "none" : "inline");
    ring.setAttribute("class", kept ? "ring kept" : "ring");
    ring.setAttribute("vector-effect", "non-scaling-stroke");
    if (current >= 0) {
      ring.setAttribute("cx", places[current][0]);
      ring.setAttribute("cy", places[current][1]);
    }
  }

  function lookAt(index) {
    if (index === current) return;
    current = index;
    const point = map.points[index], face = at("face"), sound = at("sound");
    at("shown").hidden = false;
    at("key").textContent = point.key;
    face.hidden = point.face === null;
    if (point.face !== null) {
      face.src = data.media[point.face];
      face.alt = `Face in ${point.key}`;
    }
    sound.hidden = point.sound === null;
    sound.setAttribute("aria-label", `Sound of ${point.key}`);
    if (point.sound === null) sound.removeAttribute("src");
    else sound.src = data.media[point.sound];
    const facts = [["label", point.label], ["method", point.method ?? "–"], ...point.told,
      [`${map.name} score`, figure(point.own)], ["clip score", figure(point.score)]];
    at("facts").replaceChildren(...facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
    enter();
    moveRing();
  }

  function keep(index) {
    lookAt(index);
    kept = true;
    marks.forEach((mark, place) => mark.setAttribute("aria-pressed", place === index));
    moveRing();
    const sound = at("sound");
    if (!sound.hidden) sound.play().catch((error) => console.warn("the sound could not be played:", error.message));
  }

  function letGo() {
    kept = false;
    current = -1;
    marks.forEach((mark) => mark.setAttribute("aria-pressed", false));
    at("shown").hidden = true;
    at("sound").removeAttribute("src");
    moveRing();
  }

  function nearest(event) {
    const inverse = plot.getScreenCTM().inverse();
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(inverse);
    let best = -1, distance = REACH * unit;
    places.forEach(([px, py], index) => {
      const away = Math.hypot(px - x, py - y);
      if (visible[index] && away < distance) [best, distance] = [index, away];
    });
    return best;
  }

  // The closest mark within 45 degrees of the arrow.
  function towards(dx, dy) {
    let best = -1, least = Infinity;
    places.forEach(([px, py], index) => {
      if (index === current || !visible[index]) return;
      const x = px - places[current][0], y = py - places[current][1];
      const along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx);
      if (along > 0 && across <= along && along + across < least) [best, least] = [index, along + across];
    });
    return best;
  }

  plot.addEventListener("pointermove", (event) => {
    const index = kept ? -1 : nearest(event);
    if (index >= 0) lookAt(index);
  });
  plot.addEventListener("click", (event) => {
    const mark = event.detail === 0 ? marks.indexOf(event.target.closest(".point")) : nearest(event);
    if (mark < 0) return letGo();
    keep(mark);
    marks[mark].focus({ preventScroll: true });
  });
  plot.addEventListener("focusin", (event) => {
    const index = marks.indexOf(event.target.closest(".point"));
    if (index >= 0 && !kept) lookAt(index);
  });
  plot.addEventListener("keydown", (event) => {
    const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    if (event.key in arrows && current >= 0) {
      const index = towards(...arrows[event.key]);
      if (index >= 0) {
        kept = false;
        lookAt(index);
        marks[index].focus({ preventScroll: true });
      }
    } else if (event.key === "Enter" || event.key === " ") {
      if (current >= 0) keep(current);
    } else if (event.key === "Escape") {
      const left = current;
      letGo();
      if (left >= 0) marks[left].setAttribute("tabindex", 0);
    } else return;
    event.preventDefault();
  });
  at("all").addEventListener("click", colour);
  at("encoder").addEventListener("change", chooseMap);
  at("projection").addEventListener("change", place);
  at("colour").addEventListener("change", colour);
  new ResizeObserver(() => map && size()).observe(plot);

  at("board").hidden = false;
  fill(at("encoder"), data.maps.map((one, index) => [String(index), one.name]));
  chooseMap();
})();
