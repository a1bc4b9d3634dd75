// The texts of the page's language, and numbers as it writes them.

const page = document.documentElement;
export const root = page.dataset.root; // where the service begins, seen from the page: a proxy may have put it anywhere
const words = await (await fetch(`${root}/studio/static/words/${page.lang}.json`)).json();

// Fills {names} in; with n = 1 the text under `key.one`, where there is one.
export function t(key, values = {}) {
  const text = (values.n === 1 && words[`${key}.one`]) || words[key] || key;
  const shown = (value) => (typeof value === "number" ? value.toLocaleString(page.lang) : value);
  return text.replace(/\{(\w+)\}/g, (_, name) => shown(values[name] ?? ""));
}

export const score = (value) => (Number.isInteger(value) && value > 1 ? String(value) : value.toFixed(2));
