// What is looked at lives in the URL, so that a view can be bookmarked and pasted in a ticket.

const NAMES = ["q", "group", "edge", "workload"];
export const GROUPS = ["all", "project", "host", "none"];

function read() {
  const query = new URLSearchParams(location.search);
  const state = Object.fromEntries(NAMES.map((name) => [name, query.get(name) ?? ""]));
  if (!GROUPS.includes(state.group)) state.group = "all";
  return state;
}

export const state = read();
const listeners = [];

export const onState = (listener) => listeners.push(listener);

/** Change the state, the URL, and tell everyone who shows it. */
export function setState(change) {
  Object.assign(state, change);
  const query = new URLSearchParams();
  for (const name of NAMES) {
    if (state[name] && !(name === "group" && state.group === "all")) query.set(name, state[name]);
  }
  const text = query.toString();
  history.replaceState(null, "", text ? `?${text}` : location.pathname);
  for (const listener of listeners) listener(Object.keys(change));
}

addEventListener("popstate", () => setState(read()));
