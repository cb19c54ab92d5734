// What the page can do beyond being read: values under the pointer or the slider, and sound with a play head.
// Without it nothing is missing but that: every value stands in the page, and the sound plays.
"use strict";
(() => {
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  const clock = (seconds) => {
    const tenths = Math.round(seconds * 10);
    const rest = ((tenths % 600) / 10).toFixed(1);
    return `${Math.floor(tenths / 600)}:${rest.padStart(4, "0")}`;
  };

  const upright = (area, name) => {
    const line = document.createElementNS(area.namespaceURI, "line");
    line.setAttribute("class", name);
    line.setAttribute("y2", "100%");
    line.setAttribute("visibility", "hidden");
    area.append(line);
    return line;
  };

  // pitch and level of the spectrogram's pixel at (x, y), shares of the drawing
  const levels = (area) => {
    const image = area.querySelector("image");
    const [left, width] = ["x", "width"].map((name) => parseFloat(image.getAttribute(name)) / 100);
    const bands = JSON.parse(area.dataset.bands);
    const palette = area.dataset.palette.match(/.{6}/g).map((hex) => parseInt(hex, 16));
    const range = Number(area.dataset.rangeDb);
    let pixels = null;
    const picture = new Image();
    picture.onload = () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [picture.naturalWidth, picture.naturalHeight];
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(picture, 0, 0);
      pixels = context.getImageData(0, 0, canvas.width, canvas.height);
    };
    picture.src = image.getAttribute("href");
    const shadeOf = (red, green, blue) => {
      let [best, nearest] = [0, Infinity];
      palette.forEach((colour, shade) => {
        const away = Math.abs((colour >> 16) - red) + Math.abs(((colour >> 8) & 255) - green)
          + Math.abs((colour & 255) - blue);
        if (away < nearest) [best, nearest] = [shade, away];
      });
      return best;
    };
    return (x, y) => {
      const across = (x - left) / width;
      if (across < 0 || across >= 1) return "";
      const row = clamp(Math.floor(y * bands.length), 0, bands.length - 1);
      const pitch = `${Math.round(bands[bands.length - 1 - row])} Hz`;
      if (pixels === null) return pitch;
      const at = 4 * (row * pixels.width + Math.floor(across * pixels.width));
      const below = range * (1 - shadeOf(...pixels.data.slice(at, at + 3)) / 255);
      return `${pitch}, ${below > range - 0.5 ? `${range} dB or more` : `${Math.round(below)} dB`} below the loudest`;
    };
  };

  const makePlot = (lanes, seek) => {
    const [from, to] = [Number(lanes.dataset.from), Number(lanes.dataset.to)];
    const rows = JSON.parse(lanes.dataset.rows);
    const isClock = lanes.classList.contains("clock");
    const areas = [...lanes.querySelectorAll("svg.area")];
    const cursors = areas.map((area) => upright(area, "cursor"));
    const heads = areas.map((area) => upright(area, "head"));
    const slider = document.createElement("input");
    Object.assign(slider, { type: "range", min: from, max: to, step: (to - from) / 1000 || 1, value: from });
    slider.setAttribute("aria-label", lanes.dataset.name);
    const told = document.createElement("output");
    lanes.append(slider, told);
    told.textContent = "Values: point at the drawing, or move the slider.";

    const put = (lines, value) => lines.forEach((line) => {
      const known = value !== null && value >= from && value <= to;
      const at = `${known ? (100 * (value - from)) / (to - from) : 0}%`;
      line.setAttribute("x1", at);
      line.setAttribute("x2", at);
      line.setAttribute("visibility", known ? "visible" : "hidden");
    });
    const show = (value, more) => {
      const row = rows.find((one) => value >= one[0] && value <= one[1]);
      const place = row ? row[2] : isClock ? clock(value) : `${Math.round(value)} ms`;
      told.textContent = [place, more].filter(Boolean).join(" · ");
      slider.value = value;
      slider.setAttribute("aria-valuetext", told.textContent);
    };
    slider.addEventListener("input", () => {
      const value = Number(slider.value);
      put(cursors, value);
      show(value, "");
      if (isClock) seek(value);
    });
    for (const area of areas) {
      for (const title of area.querySelectorAll("title")) title.remove();
      const more = area.dataset.bands ? levels(area) : () => "";
      const place = (event) => {
        const box = area.getBoundingClientRect();
        const x = clamp((event.clientX - box.left) / box.width, 0, 1);
        const y = clamp((event.clientY - box.top) / box.height, 0, 0.999);
        return [from + x * (to - from), more(x, y)];
      };
      area.addEventListener("pointermove", (event) => {
        const [value, text] = place(event);
        put(cursors, value);
        show(value, text);
      });
      area.addEventListener("pointerleave", () => put(cursors, null));
      if (isClock) area.addEventListener("click", (event) => seek(place(event)[0]));
    }
    return { isClock, rows, head: (value) => put(heads, value), show };
  };

  const makePlayer = (audio, plots) => {
    const [start, length] = [Number(audio.dataset.start), Number(audio.dataset.length)];
    let stopAt = Infinity;
    const follow = () => {
      const now = start + audio.currentTime;
      if (now >= stopAt) {
        audio.pause();
        stopAt = Infinity;
      }
      plots.forEach((plot) => {
        plot.head(now);
        if (!audio.paused && plot.rows.length) plot.show(now, "");
      });
      if (!audio.paused) requestAnimationFrame(follow);
    };
    ["play", "seeked", "pause"].forEach((name) => audio.addEventListener(name, follow));
    const seek = (value) => {
      stopAt = Infinity;
      if (value >= start && value <= start + length) audio.currentTime = value - start;
    };
    const offer = (text, from, to) => {
      if (from < start || from >= start + length) return null;
      const button = document.createElement("button");
      Object.assign(button, { type: "button", textContent: text });
      button.addEventListener("click", () => {
        seek(from);
        stopAt = to;
        audio.play();
      });
      return button;
    };
    return { seek, offer };
  };

  for (const file of document.querySelectorAll("article.file")) {
    const audio = file.querySelector("audio");
    let player = null;
    const plots = [...file.querySelectorAll(".plot")].map((lanes) => makePlot(lanes, (value) => player?.seek(value)));
    if (audio === null) continue;
    player = makePlayer(audio, plots.filter((plot) => plot.isClock));
    const place = file.querySelector(".parts-to-play");
    const spans = JSON.parse(place.dataset.spans);
    const buttons = spans.map(([text, from, to]) => player.offer(text, from, to)).filter(Boolean);
    place.append(...buttons);
    place.hidden = buttons.length === 0;
  }
})();
