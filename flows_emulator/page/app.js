// The page: where one is, what is known, and what has just changed.
import { html, render, useCallback, useEffect, useLayoutEffect, useRef, useState } from "./vendor/htm-preact-standalone.js";
import { ask, watch } from "./api.js";
import { Deliveries } from "./deliveries.js";
import { changedDeliveries, live, unite } from "./live.js";
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

function absorb(known, changes) {
  const integrations = new Map(known.integrations.map((integration) => [integration.id, integration]));
  for (const [topic, state] of Object.entries(changes)) {
    if (topic.startsWith("integration ")) integrations.set(state.id, state);
  }
  const deliveries = changedDeliveries(changes);
  return {
    ...known,
    counts: changes.counts ?? known.counts,
    streams: changes.streams ?? known.streams,
    integrations: [...integrations.values()],
    deliveries: deliveries.length ? unite(known.deliveries, deliveries).slice(0, NEWEST) : known.deliveries,
    latest: Math.max(known.latest, changes.cleared ?? 0, ...deliveries.map(({ id }) => id)),
  };
}

// What is known, whether the emulator answers, and `listen(hear)` for every change as it comes; what was
// missed while there was no connection is heard as `{ missed: true }`.
function useKnown() {
  const [known, setKnown] = useState(null);
  const [online, setOnline] = useState(true);
  const listeners = useRef(new Set());
  const listen = useCallback((hear) => {
    listeners.current.add(hear);
    return () => listeners.current.delete(hear);
  }, []);
  useEffect(() => {
    const state = live(() => ask("GET", "api/state"), absorb, setKnown);
    const tell = (changes) => listeners.current.forEach((hear) => hear(changes));
    return watch(
      (changes) => (state.change(changes), tell(changes)),
      (yes) => {
        setOnline(yes);
        if (yes) {
          state.reload().catch(() => setOnline(false));
          tell({ missed: true });
        }
      },
    );
  }, []);
  return { known, online, listen };
}

function App() {
  const { known, online, listen } = useKnown();
  const [where, setWhere] = useState(place);
  const [said, setSaid] = useState({ text: "" });
  // Both are kept here, so that what was written survives a look at the deliveries.
  const [draft, setDraft] = useState(null);
  const [forms, setForms] = useState({});
  // How often an event was asked for or written: the draft is this page's, whichever editor shows it.
  const wishes = useRef(0);
  const heading = useRef(null);

  const say = useCallback((text, bad = false, action = null) => setSaid({ text, bad, action }), []);
  const unsaved = Object.values(forms).some(Boolean);

  useEffect(() => {
    const moved = () => {
      setWhere(place());
      setSaid({ text: "" });
    };
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  useEffect(() => {
    if (!unsaved) return undefined;
    const ask = (event) => event.preventDefault();
    addEventListener("beforeunload", ask);
    return () => removeEventListener("beforeunload", ask);
  }, [unsaved]);
  useLayoutEffect(() => {
    document.title = `${PLACES[where.path].title} · Flows, emulated`;
    heading.current?.focus({ preventScroll: true });
  }, [where.path]);

  const { title, view: View } = PLACES[where.path];
  return html`
    <a class="skip" href="#main" onClick=${(event) => (event.preventDefault(), heading.current.focus())}>Skip to the content</a>
    <${Sidebar} path=${where.path} known=${known} unsaved=${unsaved} />
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
            listen=${listen}
            draft=${draft}
            setDraft=${setDraft}
            wishes=${wishes}
            forms=${forms}
            setForms=${setForms}
          />`
        : html`<p class="quiet busy">Loading</p>`}
      <${Toast} said=${said} say=${say} />
    </main>
  `;
}

function Toast({ said, say }) {
  const { text, bad, action } = said;
  return html`
    <div class=${`toast ${bad ? "bad" : "good"} ${text ? "" : "none"}`} role="status" aria-live="polite">
      ${text &&
      html`<span>${text}</span>
        ${action && html`<button type="button" class="plain" onClick=${action.run}>${action.title}</button>`}
        <button type="button" class="plain" aria-label="Dismiss" onClick=${() => say("")}>×</button>`}
    </div>
  `;
}

function Sidebar({ path, known, unsaved }) {
  const link = (to, text, badges) => html`
    <a href=${`#/${to}`} aria-current=${path === to ? "page" : undefined}>
      <span>${text}</span>${badges}
    </a>
  `;
  const { pending = 0, failed = 0 } = known?.counts ?? {};
  const lives = Object.values(known?.streams ?? {}).some((stream) => stream.running);
  const counts = html`<span class="badges">
    ${pending > 0 && html`<span class="badge" title=${`${pending} pending`}>${pending}<span class="unseen"> pending </span></span>`}
    ${failed > 0 && html`<span class="badge bad" title=${`${failed} failed`}>${failed}<span class="unseen"> failed</span></span>`}
  </span>`;
  return html`
    <nav class="side" aria-label="Sections">
      <div class="inner">
        <p class="brand"><img src="icon.svg" alt="" width="28" height="28" /><span>Flows<small>emulated</small></span></p>
        <p class="group" id="nav-work">Webhooks</p>
        <div role="group" aria-labelledby="nav-work">
          ${link("send", "Send", lives && html`<span class="dot" title="Events happen by themselves"></span>`)}
          ${link("deliveries", "Deliveries", counts)}
        </div>
        <p class="group" id="nav-settings">Settings</p>
        <div role="group" aria-labelledby="nav-settings">
          ${link("settings/integrations", "Integrations", unsaved && html`<span class="dot warn" title="Changes that are not saved"></span>`)}
        </div>
      </div>
    </nav>
  `;
}

render(html`<${App} />`, document.getElementById("app"));
