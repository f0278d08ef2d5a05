"use strict";
(() => {
  const of = (id) => document.getElementById(id);
  const stage = of("stage"), split = of("split"), play = of("play"), seek = of("seek");
  const note = of("note"), controls = of("controls");

  // -- the line between the two ---------------------------------------------------------------

  const move = (percent) => {
    const place = Math.min(100, Math.max(0, percent));
    split.value = place;
    document.documentElement.style.setProperty("--split", `${place}%`);
  };
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    move(100 * (event.clientX - box.left) / box.width);
  };
  split.addEventListener("input", () => move(Number(split.value)));
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    follow(event);
    split.focus({ preventScroll: true });
    event.preventDefault();
  });
  stage.addEventListener("pointermove", (event) => {
    if (stage.hasPointerCapture(event.pointerId)) follow(event);
  });

  // -- the videos -----------------------------------------------------------------------------

  const bytesOf = (holder) => {
    const text = holder.textContent, parts = [], step = 1 << 20;  // whole groups of four letters
    for (let at = 0; at < text.length; at += step) {
      const letters = atob(text.slice(at, at + step)), part = new Uint8Array(letters.length);
      for (let place = 0; place < letters.length; place += 1) part[place] = letters.charCodeAt(place);
      parts.push(part);
    }
    return new Blob(parts, { type: holder.dataset.type });
  };
  const load = (name) => new Promise((resolve, reject) => {
    const holder = of(`video-${name}`), video = document.createElement("video");
    video.muted = video.playsInline = true;
    video.preload = "auto";
    video.id = `playing-${name}`;
    video.dataset.rate = holder.dataset.rate;
    video.addEventListener("loadeddata", () => video.videoWidth ? resolve(video) : reject());
    video.addEventListener("error", reject);
    video.src = URL.createObjectURL(bytesOf(holder));
    holder.textContent = "";
  });

  const begin = ([before, after]) => {
    const both = [before, after];
    of("picture-before").replaceWith(before);
    of("picture-after").replaceWith(after);
    controls.hidden = of("play-keys").hidden = false;
    const end = Math.min(before.duration, after.duration);
    const picture = 1 / (Number(after.dataset.rate) || 25);
    let wanted = false, turn = 0;

    const clock = (seconds) => `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(1).padStart(4, "0")}`;
    const show = () => {
      seek.value = 1000 * after.currentTime / end;
      of("time").textContent = `${clock(after.currentTime)} / ${clock(end)}`;
      seek.setAttribute("aria-valuetext", of("time").textContent);
    };
    const goTo = (seconds) => {
      const place = Math.min(Math.max(0, seconds), Math.max(0, end - 0.001));
      for (const video of both) video.currentTime = place;
      show();
    };
    const run = (on) => {
      wanted = on;
      turn += 1;
      const mine = turn;
      controls.classList.toggle("playing", on);
      play.setAttribute("aria-label", on ? "Pause" : "Play");
      if (!on) {
        for (const video of both) video.pause();
        goTo(after.currentTime);
        return;
      }
      if (after.currentTime >= end - picture) goTo(0);
      Promise.all(both.map((video) => video.play())).then(
        () => watch(mine), () => mine === turn && run(false));
    };
    // The one after leads; the one before is set right when it is off by half a picture and more.
    const watch = (mine) => {
      if (mine !== turn) return;
      if (after.ended || before.ended || after.currentTime >= end - 0.005) {
        goTo(0);
        run(true);
        return;
      }
      const behind = after.currentTime - before.currentTime;
      if (Math.abs(behind) > 0.25) before.currentTime = after.currentTime;
      before.playbackRate = Math.abs(behind) > picture / 2 ? 1 + Math.sign(behind) * 0.08 : 1;
      show();
      requestAnimationFrame(() => watch(mine));
    };

    play.addEventListener("click", () => run(!wanted));
    seek.addEventListener("input", () => goTo(end * seek.value / 1000));
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      if (event.key === " " && event.target !== play) run(!wanted);
      else if (event.key === ",") { run(false); goTo(after.currentTime - picture); }
      else if (event.key === ".") { run(false); goTo(after.currentTime + picture); }
      else return;
      event.preventDefault();
    });
    show();
    document.documentElement.dataset.shows = "videos";
  };

  const pictures = (why) => {
    note.textContent = note.textContent || why;
    document.documentElement.dataset.shows = "pictures";
  };
  if (of("video-before").textContent && of("video-after").textContent) {
    Promise.all(["before", "after"].map(load)).then(begin, () => pictures(
      "This browser cannot play both videos; their first pictures are shown."));
  } else {
    pictures("");
  }
})();
