// What is looked at lives in the URL, so that a view can be bookmarked and pasted in a ticket.

const NAMES = ["q", "group", "edge", "workload", "at", "before", "window", "span"];
const USUAL = { group: "all", window: "3600", span: "24" }; // not written into the URL
const CHOICES = { window: ["300", "3600", "21600", "86400"], span: ["24", "168", "720", "8760"] };
export const GROUPS = ["all", "project", "host", "none"];

function read() {
  const query = new URLSearchParams(location.search);
  const state = Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""]));
  if (!GROUPS.includes(state.group)) state.group = "all";
  for (const [name, known] of Object.entries(CHOICES)) if (!known.includes(state[name])) state[name] = USUAL[name];
  for (const name of ["at", "before"]) if (Number.isNaN(Date.parse(state[name]))) state[name] = "";
  if (!state.at) state.before = "";
  return state;
}

export const state = read();
const listeners = [];

/** Whether a time that was is looked at; else the page is live. */
export const isPast = () => state.at !== "";

export const onState = (listener) => listeners.push(listener);

/** Change the state, the URL, and tell everyone who shows it. */
export function setState(change) {
  Object.assign(state, change);
  const query = new URLSearchParams();
  for (const name of NAMES) {
    if (state[name] && state[name] !== USUAL[name]) query.set(name, state[name]);
  }
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
  for (const listener of listeners) listener(Object.keys(change));
}

addEventListener("popstate", () => setState(read()));
