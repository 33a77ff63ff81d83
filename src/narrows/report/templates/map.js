// Draw and play the window that is clicked, then its reconstruction.
for (const figure of document.querySelectorAll("figure.map")) {
  const notes = JSON.parse(figure.querySelector(".notes").textContent);
  const points = [...figure.querySelectorAll("circle")], chosen = figure.querySelector(".chosen");
  const { steps, step, low, high } = figure.dataset;
  const draw = (name, own) => {
    const rects = own.map(([start, length, pitch]) =>
      `<rect x="${start}" y="${high - pitch}" width="${length - 0.15}" height="0.9"/>`).join("");
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "tune" });
    Object.assign(button.dataset, { step, steps, notes: JSON.stringify(own) });
    button.innerHTML = `<svg viewBox="0 0 ${steps} ${high - low + 1}" preserveAspectRatio="none">${rects}</svg><i></i>`;
    button.setAttribute("aria-label", `Play ${name}`);
    const label = document.createElement("p");
    label.textContent = name;
    chosen.append(label, button);
    return button;
  };
  const choose = index => {
    chosen.replaceChildren();
    const own = draw(points[index].textContent, notes[index][0]), again = draw("its reconstruction", notes[index][1]);
    points.forEach(point => point.classList.remove("here"));
    points[index].classList.add("here");
    window.tunes.play(own, () => window.tunes.play(again));
  };
  points.forEach((point, index) => {
    point.addEventListener("click", () => choose(index));
    point.addEventListener("keydown", event => event.key === "Enter" && choose(index));
  });
}
