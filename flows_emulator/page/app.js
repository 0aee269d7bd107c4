// The page: where one is, what is known, and what has just changed.
import { html, render, useCallback, useEffect, useRef, useState } from "./vendor/htm-preact-standalone.js";
import { ask, watch } from "./api.js";
import { Deliveries } from "./deliveries.js";
import { Send } from "./send.js";
import { Settings } from "./settings.js";

const PLACES = {
  "settings/integrations": { title: "Integrations", view: Settings },
  send: { title: "Send", view: Send },
  deliveries: { title: "Deliveries", view: Deliveries },
};
const START = "settings/integrations";
const NEWEST = 200;

function place() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  return { path: path in PLACES ? path : START, query: new URLSearchParams(query) };
}

// The newest deliveries after some have changed.
function merge(deliveries, changes) {
  const changed = new Map(
    Object.entries(changes)
      .filter(([topic, delivery]) => topic.startsWith("delivery ") && delivery)
      .map(([, delivery]) => [delivery.id, delivery]),
  );
  if (!changed.size) return deliveries;
  const kept = deliveries.map((delivery) => {
    const newer = changed.get(delivery.id);
    changed.delete(delivery.id);
    return newer ?? delivery;
  });
  const oldest = kept.length >= NEWEST ? kept[kept.length - 1].id : 0;
  const added = [...changed.values()].filter((delivery) => delivery.id > oldest);
  return [...added, ...kept].sort((a, b) => b.id - a.id).slice(0, NEWEST);
}

function absorb(known, changes) {
  if (!known) return known;
  const integrations = new Map(known.integrations.map((integration) => [integration.id, integration]));
  for (const [topic, state] of Object.entries(changes)) {
    if (topic.startsWith("integration ")) integrations.set(state.id, state);
  }
  return {
    ...known,
    counts: changes.counts ?? known.counts,
    streams: changes.streams ?? known.streams,
    integrations: [...integrations.values()],
    deliveries: merge(known.deliveries, changes),
  };
}

function App() {
  const [known, setKnown] = useState(null);
  const [online, setOnline] = useState(true);
  const [where, setWhere] = useState(place);
  const [said, setSaid] = useState({ text: "", bad: false });
  // Kept here, so that it survives a look at the deliveries.
  const [draft, setDraft] = useState(null);
  const heading = useRef(null);

  const refresh = useCallback(() => ask("GET", "api/state").then(setKnown, () => setOnline(false)), []);
  const say = useCallback((text, bad = false) => setSaid({ text, bad }), []);

  useEffect(() => {
    const moved = () => {
      setWhere(place());
      setSaid({ text: "", bad: false });
    };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(
    () =>
      watch(
        (changes) => setKnown((before) => absorb(before, changes)),
        (yes) => {
          setOnline(yes);
          // What happened in between was not heard.
          if (yes) refresh();
        },
      ),
    [],
  );
  useEffect(() => {
    document.title = `${PLACES[where.path].title} · Flows, emulated`;
    heading.current?.focus({ preventScroll: true });
  }, [where.path]);

  const { title, view: View } = PLACES[where.path];
  return html`
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), heading.current.focus())}>Skip to the content</a>
    <${Sidebar} path=${where.path} known=${known} />
    <main id="main">
      <header class="head">
        <h1 ref=${heading} tabindex="-1">${title}</h1>
        ${!online && html`<p class="pill bad" role="status">The emulator does not answer; trying again</p>`}
      </header>
      ${known
        ? html`<${View}
            known=${known}
            query=${where.query}
            say=${say}
            refresh=${refresh}
            draft=${draft}
            setDraft=${setDraft}
          />`
        : html`<p class="quiet busy">Loading</p>`}
      <div class=${`toast ${said.bad ? "bad" : "good"} ${said.text ? "" : "none"}`} role="status" aria-live="polite">
        ${said.text &&
        html`<span>${said.text}</span>
          <button type="button" class="plain" aria-label="Dismiss" onClick=${() => say("")}>×</button>`}
      </div>
    </main>
  `;
}

function Sidebar({ path, known }) {
  const link = (to, text, badge) => html`
    <a href=${`#/${to}`} aria-current=${path === to ? "page" : undefined}>
      <span>${text}</span>${badge}
    </a>
  `;
  const { pending = 0, failed = 0 } = known?.counts ?? {};
  const lives = Object.values(known?.streams ?? {}).some((stream) => stream.running);
  return html`
    <nav class="side" aria-label="Sections">
      <p class="brand"><img src="icon.svg" alt="" width="28" height="28" /><span>Flows<small>emulated</small></span></p>
      <p class="group" id="nav-work">Webhooks</p>
      <div role="group" aria-labelledby="nav-work">
        ${link("send", "Send", lives && html`<span class="dot" title="Events happen by themselves"></span>`)}
        ${link(
          "deliveries",
          "Deliveries",
          pending + failed > 0 &&
            html`<span class=${`badge ${failed ? "bad" : ""}`} title=${`${pending} pending, ${failed} failed`}>
              ${pending + failed}
            </span>`,
        )}
      </div>
      <p class="group" id="nav-settings">Settings</p>
      <div role="group" aria-labelledby="nav-settings">${link("settings/integrations", "Integrations")}</div>
    </nav>
  `;
}

render(html`<${App} />`, document.getElementById("app"));
