// Play a tune when it is clicked: a plucked tone for every note, and a line at the place that sounds; then call `after`.
{
  const tunes = window.tunes = { context: null, stop: () => {} };
  tunes.play = (button, after) => {
    tunes.stop();
    const context = tunes.context ??= new AudioContext();
    context.resume();
    const notes = JSON.parse(button.dataset.notes), step = +button.dataset.step, line = button.querySelector("i");
    const out = new GainNode(context, { gain: 0.2 }), begin = context.currentTime + 0.1;
    out.connect(new DynamicsCompressorNode(context)).connect(context.destination);
    let last = 0;
    for (const [start, length, pitch, velocity] of notes) {
      const on = begin + start * step, off = on + length * step, volume = velocity / 127;
      const tone = new OscillatorNode(context, { type: "triangle", frequency: 440 * 2 ** ((pitch - 69) / 12) });
      const gain = new GainNode(context, { gain: 0 });
      gain.gain.setValueAtTime(0, on);
      gain.gain.linearRampToValueAtTime(volume, on + 0.01);
      gain.gain.setTargetAtTime(volume * 0.3, on + 0.01, 0.4);
      gain.gain.setTargetAtTime(0, off, 0.03);
      tone.connect(gain).connect(out);
      tone.start(on);
      tone.stop(off + 0.3);
      last = Math.max(last, start + length);
    }
    const timer = setInterval(() => {
      const place = (context.currentTime - begin) / step;
      line.style.left = `${100 * Math.min(1, Math.max(0, place / button.dataset.steps))}%`;
      if (place > last + 1) {
        tunes.stop();
        after?.();
      }
    }, 30);
    button.classList.add("playing");
    tunes.playing = button;
    tunes.stop = () => {
      clearInterval(timer);
      out.disconnect();
      button.classList.remove("playing");
      tunes.playing = null;
      tunes.stop = () => {};
    };
  };
  document.addEventListener("click", event => {
    const button = event.target.closest("button.tune");
    if (button) button === tunes.playing ? tunes.stop() : tunes.play(button);
  });
}
