// The control of time: the moment that is shown, live or past, and the earlier one it is compared
// with. Hatched pieces of a scale are times in which hosts were not observed.

import { ApiError, get } from "./api.js";
import { byId, el, shown } from "./dom.js";
import { count, moment } from "./format.js";
import { isPast, setState, state } from "./state.js";

const STEPS = 288; // of a scale: five minutes of a day
const HOUR = 3_600_000; // milliseconds
const TICKS = 6;
const GAPS = 6; // named one by one; the rest is counted
const WINDOWS = { 300: "5 minutes", 3600: "hour", 21600: "6 hours", 86400: "day" };

const ends = ["at", "before"];
let observed = null;

const step = () => (Number(state.span) * HOUR) / STEPS;
const end = () => Math.floor(Date.now() / step()) * step();
const timeOf = (value) => end() - (STEPS - value) * step();
const valueOf = (time) => Math.min(STEPS, Math.max(0, Math.round(STEPS - (end() - Date.parse(time)) / step())));
const written = (time) => `${new Date(time).toISOString().slice(0, 19)}Z`;

/** Of a date field, which knows no time zone but the reader's. */
function local(time) {
  const shifted = new Date(Date.parse(time) - new Date(time).getTimezoneOffset() * 60_000);
  return shifted.toISOString().slice(0, 16);
}

export function createTime() {
  byId("now").addEventListener("click", () => setState({ at: "", before: "" }));
  byId("compare").addEventListener("click", toggleComparison);
  byId("window").addEventListener("change", (event) => setState({ window: event.target.value }));
  byId("span").addEventListener("change", (event) => setState({ span: event.target.value }));
  for (const name of ends) {
    const scale = byId(`${name}-scale`);
    scale.max = STEPS;
    scale.addEventListener("input", () => preview(name));
    scale.addEventListener("change", () => choose(name, Number(scale.value) === STEPS ? null : timeOf(Number(scale.value))));
    byId(`${name}-time`).addEventListener("change", (event) => {
      const time = Date.parse(event.target.value);
      if (!Number.isNaN(time)) choose(name, time < Date.now() ? time : null);
    });
  }
  updateTime();
}

/** A moment, or null for now; of two moments the earlier one is compared with the later. */
function choose(name, time) {
  if (time === null && name === "at" && !state.before) {
    setState({ at: "" });
    return;
  }
  const chosen = { at: state.at, before: state.before, [name]: written(time ?? Date.now()) };
  if (chosen.before && chosen.before > chosen.at) [chosen.at, chosen.before] = [chosen.before, chosen.at];
  setState(chosen);
}

export function stepBy(steps) {
  const value = (isPast() ? valueOf(state.at) : STEPS) + steps;
  choose("at", value >= STEPS ? null : timeOf(Math.max(0, value)));
}

function toggleComparison() {
  if (state.before) {
    setState({ before: "" });
    return;
  }
  const at = state.at || written(Date.now());
  const earliest = Date.parse(observed?.first ?? 0) + Number(state.window) * 1000;
  const before = written(Math.min(Date.parse(at) - HOUR, Math.max(Date.parse(at) - 24 * HOUR, earliest)));
  const tight = state.span === "24" && Date.parse(before) < timeOf(STEPS / 12);
  setState({ at, before, ...(tight ? { span: "168" } : {}) });
}

const slotOf = (value) => observed?.slots[Math.min(value, STEPS - 1)];

function told(value, time) {
  const slot = slotOf(value);
  const gap = slot?.known ? slot.known - slot.observed : 0;
  if (slot && !slot.known && value < STEPS) return `${moment(time)}, before the first report`;
  return gap ? `${moment(time)}, ${gap} of ${slot.known} hosts not observed` : moment(time);
}

/** What the thumb says while it is moved, before anything is asked. */
function preview(name) {
  const scale = byId(`${name}-scale`);
  const value = Number(scale.value);
  const live = value === STEPS && name === "at" && !state.before;
  scale.setAttribute("aria-valuetext", live ? "Live" : told(value, timeOf(value)));
  byId(`${name}-said`).textContent = live ? "" : told(value, timeOf(value));
}

/** The controls as the state says. */
export function updateTime() {
  byId("now").setAttribute("aria-pressed", String(!isPast()));
  byId("compare").setAttribute("aria-pressed", String(Boolean(state.before)));
  byId("earlier").hidden = !state.before;
  byId("time").classList.toggle("past", isPast());
  byId("window").value = state.window;
  byId("span").value = state.span;
  for (const name of ends) {
    const time = state[name];
    const scale = byId(`${name}-scale`);
    const value = time ? valueOf(time) : STEPS;
    scale.value = value;
    scale.setAttribute("aria-valuetext", time ? told(value, time) : "Live");
    byId(`${name}-said`).textContent = "";
    const field = byId(`${name}-time`);
    field.value = time ? local(time) : "";
    field.title = time || "a moment of the past";
  }
}

// ---- what was observed ----

/** Fetch and draw which pieces of the scale were observed. */
export async function updateObserved() {
  const span = state.span;
  try {
    const answer = await get("observed", { since: written(timeOf(0)), until: written(timeOf(STEPS)), slots: STEPS });
    if (span !== state.span) return; // another scale was chosen meanwhile
    observed = answer;
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    observed = null; // the banner of the map's own failure says why
  }
  for (const name of ends) drawScale(byId(`${name}-track`));
  updateTime();
}

function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function kindOf(slot) {
  if (!slot.known) return "before";
  if (slot.observed === slot.known) return "seen";
  return slot.observed ? "partly" : "missed";
}

function drawScale(track) {
  const kinds = (observed?.slots ?? []).map(kindOf);
  const runs = [];
  kinds.forEach((kind, index) => {
    if (kinds[index - 1] === kind) runs.at(-1).length += 1;
    else runs.push({ kind, index, length: 1 });
  });
  const wide = (slots) => `${((slots * 100) / STEPS).toFixed(3)}%`;
  const pieces = runs.map((run) => svg("rect", { class: run.kind, x: wide(run.index), width: wide(run.length), y: 0, height: "100%" }));
  track.querySelector("g").replaceChildren(...pieces);
  const ticks = track.parentElement.querySelector(".ticks");
  ticks.replaceChildren(...Array.from({ length: TICKS }, (_, n) => el("span", {}, tick(timeOf((STEPS * n) / TICKS)))), el("span", {}, "now"));
}

function tick(time) {
  const date = new Date(time);
  if (Number(state.span) <= 24) return date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short", ...(Number(state.span) > 720 ? { year: "2-digit" } : {}) });
}

// ---- what is looked at, in words ----

function gapText({ host, since, until }) {
  const day = (time) => new Date(time).toDateString();
  const from = moment(since);
  const to = day(since) === day(until) ? moment(until).split(", ").pop() : moment(until);
  return `${shown(host, 40)} ${from} to ${to}`;
}

/** The banners: which time this is, what was not observed in it, what differs. */
export function timeBanners({ gaps, difference }) {
  const within = `the ${WINDOWS[state.window] ?? `${state.window} s`} before`;
  const sentences = state.before && difference
    ? [`${moment(state.at)} compared with ${moment(state.before)}, each with ${within} it:`,
      `${count(difference.new)} new, ${count(difference.gone)} gone, ${count(difference.changed)} changed.`,
      difference.omitted && `${count(difference.omitted)} differences are not listed.`]
    : [`As it was: ${moment(state.at)}, and ${within} it.`];
  byId("past").textContent = [...sentences, "Hosts and alerts are those of now."].filter(Boolean).join(" ");
  byId("past").hidden = !isPast();
  const more = gaps.length > GAPS ? ` and ${count(gaps.length - GAPS)} times more` : "";
  byId("gaps").textContent = `Not observed: ${gaps.slice(0, GAPS).map(gapText).join("; ")}${more}. `
    + (state.before ? "What seems new or gone may only have been unseen." : "An absent edge may only have been unseen.");
  byId("gaps").hidden = !isPast() || !gaps.length;
}
