// Draw stick figures on canvases. A row plays in step; dragging a figure, or its arrow keys, turns all of a block.
{
  const radians = Math.PI / 180, clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  // As in modalities/motion/projection.py: to the right, up, and towards the camera.
  const project = ([x, y, z], target, { yaw, pitch, distance, nearest }) => {
    const dx = x - target[0], dy = y - target[1], dz = z - target[2];
    const sy = Math.sin(yaw * radians), cy = Math.cos(yaw * radians);
    const sp = Math.sin(pitch * radians), cp = Math.cos(pitch * radians);
    const out = cy * dx + sy * dy, near = cp * out + sp * dz;
    const larger = distance / Math.max(distance - near, nearest);
    return [(cy * dy - sy * dx) * larger, (cp * dz - sp * out) * larger, near];
  };

  // The frames of a figure: the positions of its joints, and last the point that the camera looks at.
  const load = canvas => {
    const { points, scale, joints, bones } = canvas.dataset, frames = [];
    const levels = new Int16Array(Uint8Array.from(atob(points), letter => letter.charCodeAt(0)).buffer);
    for (let start = 0; start < levels.length; start += 3 * joints) {
      frames.push(Array.from({ length: +joints }, (_, joint) =>
        [0, 1, 2].map(axis => levels[start + 3 * joint + axis] * scale)));
    }
    return { canvas, frames, bones: JSON.parse(bones), path: frames.map(([root]) => [root[0], root[1], 0]) };
  };

  // The grid of a round floor below the target: chords of a circle, as pairs of points.
  const floor = (target, cell, radius) => [0, 1].flatMap(axis => {
    const middle = target[axis], other = target[1 - axis], lines = [];
    for (let index = Math.ceil((middle - radius) / cell); index * cell < middle + radius; index++) {
      const at = index * cell, chord = Math.sqrt(Math.max(0, radius ** 2 - (at - middle) ** 2));
      lines.push([other - chord, other + chord].map(end => axis ? [end, at, 0] : [at, end, 0]));
    }
    return lines;
  });

  const draw = ({ canvas, frames, bones, path }, moment, cell, camera) => {
    const size = canvas.clientWidth, pixels = Math.round(size * window.devicePixelRatio);
    if (!size) return;
    if (canvas.width !== pixels) canvas.width = canvas.height = pixels;
    const now = Math.min(moment, frames.length - 1), points = frames[now], target = points.at(-1);
    const context = canvas.getContext("2d"), style = getComputedStyle(canvas);
    const see = point => {
      const [x, y, near] = project(point, target, camera);
      return [size / 2 * (1 + x / camera.half), size / 2 * (1 - y / camera.half), near];
    };
    const stroke = (lines, colour, width) => {
      context.strokeStyle = style.getPropertyValue(colour);
      context.lineWidth = width;
      context.beginPath();
      for (const [[x, y], [u, v]] of lines) {
        context.moveTo(x, y);
        context.lineTo(u, v);
      }
      context.stroke();
    };
    context.setTransform(pixels / size, 0, 0, pixels / size, 0, 0);
    context.clearRect(0, 0, size, size);
    context.lineCap = "round";
    context.globalAlpha = 0.35;
    stroke(floor(target, cell, camera.radius).map(ends => ends.map(see)), "--muted", 1);
    context.globalAlpha = 1;
    const near = path.map(([x, y]) => Math.hypot(x - target[0], y - target[1]) < camera.radius);
    const steps = path.flatMap((point, step) => near[step] && near[step + 1] ? [[point, path[step + 1]]] : []);
    stroke(steps.map(ends => ends.map(see)), "--muted", 1);
    context.fillStyle = style.getPropertyValue("--muted");
    context.beginPath();
    context.arc(...see(path[now]).slice(0, 2), 3, 0, 2 * Math.PI);
    context.fill();
    const seen = points.map(see), depth = ([start, end]) => seen[start][2] + seen[end][2];
    for (const [start, end, marked] of [...bones].sort((one, two) => depth(one) - depth(two))) {
      stroke([[seen[start], seen[end]]], marked ? "--second" : "--accent", 3);
    }
  };

  // A row: returns the function that draws it in the frame of its slider.
  const set = (scene, camera) => {
    const figures = [...scene.querySelectorAll("canvas")].map(load), { rate, cell } = scene.dataset;
    const button = scene.querySelector("button"), slider = scene.querySelector("input");
    const redraw = () => {
      const moment = slider ? +slider.value : 0;
      for (const figure of figures) draw(figure, moment, +cell, camera);
      if (!slider) return;
      const time = `${(moment / rate).toFixed(2)} s`;
      scene.querySelector("output").textContent = time;
      slider.setAttribute("aria-valuetext", time);
    };
    let playing = false, began;
    const hold = on => {
      playing = on;
      button.textContent = on ? "Pause" : "Play";
      began = performance.now() - 1000 * slider.value / rate;
      if (on) requestAnimationFrame(step);
    };
    const step = () => {
      if (!playing) return;
      const moment = Math.floor((performance.now() - began) / 1000 * rate + 1e-6) % (+slider.max + 1);
      if (moment !== +slider.value) {
        slider.value = moment;
        redraw();
      }
      requestAnimationFrame(step);
    };
    button?.addEventListener("click", () => hold(!playing));
    slider?.addEventListener("input", () => {
      if (playing) hold(false);
      redraw();
    });
    return redraw;
  };

  for (const block of document.querySelectorAll("figure.sticks")) {
    block.classList.add("live");
    const camera = JSON.parse(block.dataset.camera), canvases = block.querySelectorAll("canvas");
    const rows = [...block.querySelectorAll(".scene")].map(scene => set(scene, camera));
    const redraw = () => rows.forEach(row => row());
    const turn = (yaw, pitch) => {
      camera.yaw = (((camera.yaw + yaw + 180) % 360) + 360) % 360 - 180;
      camera.pitch = clamp(camera.pitch + pitch, 0, 90);
      for (const canvas of canvases) {
        canvas.setAttribute("aria-valuenow", Math.round(camera.yaw));
        canvas.setAttribute("aria-valuetext", `${Math.round(camera.yaw)}°, ${Math.round(camera.pitch)}° above`);
      }
      redraw();
    };
    const keys = { ArrowLeft: [5, 0], ArrowRight: [-5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] };
    for (const canvas of canvases) {
      canvas.addEventListener("pointerdown", event => canvas.setPointerCapture(event.pointerId));
      canvas.addEventListener("pointermove", event => {
        if (canvas.hasPointerCapture(event.pointerId)) turn(-0.5 * event.movementX, 0.5 * event.movementY);
      });
      canvas.addEventListener("keydown", event => {
        if (!keys[event.key]) return;
        event.preventDefault();
        turn(...keys[event.key]);
      });
    }
    new ResizeObserver(redraw).observe(block);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    turn(0, 0);
  }
  window.sticks = { project };
}
