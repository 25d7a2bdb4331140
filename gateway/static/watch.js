// The player of the watch page: hls.js where the browser has media source extensions,
// the browser's own HLS elsewhere (Safari on iOS). It reports its state on
// window.headrace, which the tests read.
"use strict";

const facts = JSON.parse(document.getElementById("facts").textContent);
const at = (id) => document.getElementById(id);
const video = at("video");
window.headrace = { errors: [], ready: false };

function fail(text) {
  window.headrace.errors.push(text);
  at("problem").textContent = text;
  at("problem").hidden = false;
}

function clock(seconds) {
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return (parts[0] ? parts : parts.slice(1)).map((n) => String(n).padStart(2, "0")).join(":");
}

function option(select, value, text) {
  select.add(new Option(text, value));
}

function playWithHls() {
  const hls = new Hls({ capLevelToPlayerSize: true });
  window.headrace.hls = hls;
  hls.on(Hls.Events.MANIFEST_PARSED, () => {
    window.headrace.ready = true;
    hls.levels.forEach((level, index) => {
      if (level.height) option(at("quality"), index, `${Math.min(level.width, level.height)}p`);
    });
  });
  hls.on(Hls.Events.AUDIO_TRACKS_UPDATED, () => {
    at("audio").replaceChildren();
    hls.audioTracks.forEach((track, index) => option(at("audio"), index, track.name));
    at("sound").hidden = hls.audioTracks.length < 2;
  });
  hls.on(Hls.Events.AUDIO_TRACK_SWITCHED, () => { at("audio").value = hls.audioTrack; });
  hls.on(Hls.Events.LEVEL_SWITCHED, (_event, switched) => {
    const level = hls.levels[switched.level];
    at("now").textContent = level && level.height ? `${level.width} × ${level.height}` : "";
  });
  hls.on(Hls.Events.ERROR, (_event, problem) => {
    if (problem.fatal) fail(`Playback failed: ${problem.details}`);
  });
  at("quality").onchange = (event) => { hls.nextLevel = Number(event.target.value); };
  at("audio").onchange = (event) => { hls.audioTrack = Number(event.target.value); };
  hls.loadSource(facts.hls);
  hls.attachMedia(video);
}

function seconds(text) {
  return text.split(":").reduce((sum, part) => sum * 60 + Number(part), 0);
}

// The storyboard: WebVTT cues "start --> end" over "picture#xywh=x,y,w,h".
function cues(vtt) {
  return [...vtt.matchAll(/([\d:.]+) --> ([\d:.]+)[^\n]*\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)/g)]
    .map((m) => ({ start: seconds(m[1]), end: seconds(m[2]), file: m[3], box: m.slice(4).map(Number) }));
}

async function storyboard() {
  const reply = await fetch(facts.storyboard);
  if (!reply.ok) return;
  const tiles = cues(await reply.text());
  const strip = at("strip");
  const moment = (event) => {
    const box = strip.getBoundingClientRect();
    return Math.min(1, Math.max(0, (event.clientX - box.left) / box.width)) * (video.duration || 0);
  };
  strip.hidden = !tiles.length;
  strip.onclick = (event) => { video.currentTime = moment(event); };
  strip.onmouseleave = () => { at("preview").hidden = true; };
  strip.onmousemove = (event) => {
    const when = moment(event);
    const tile = tiles.find((one) => when < one.end) || tiles[tiles.length - 1];
    const [x, y, width, height] = tile.box;
    const picture = new URL(tile.file, new URL(facts.storyboard, location.href));
    Object.assign(at("tile").style, {
      width: `${width}px`, height: `${height}px`,
      backgroundImage: `url("${picture.pathname}")`, backgroundPosition: `-${x}px -${y}px`,
    });
    at("when").textContent = clock(when);
    at("preview").style.left = `${event.clientX - strip.getBoundingClientRect().left}px`;
    at("preview").hidden = false;
  };
}

if (facts.problem) {
  at("title").textContent = "Not available";
  fail(`${facts.problem}. ${facts.hint || ""}`);
} else {
  at("title").textContent = facts.title;
  at("stage").hidden = false;
  at("strip").hidden = true;
  if (facts.poster) video.poster = facts.poster;
  facts.warnings.forEach((text) => {
    const line = document.createElement("li");
    line.textContent = text;
    at("warnings").append(line);
  });
  at("speed").onchange = (event) => { video.playbackRate = Number(event.target.value); };
  if (Hls.isSupported()) playWithHls();
  else if (video.canPlayType("application/vnd.apple.mpegurl")) { video.src = facts.hls; window.headrace.ready = true; }
  else fail("This browser can play neither HLS nor media source extensions.");
  if (facts.storyboard) storyboard().catch(() => { at("strip").hidden = true; });
}
