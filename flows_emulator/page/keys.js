// Keys that work wherever one is on the page, but where one writes or is asked something.
import { useEffect, useRef } from "./vendor/htm-preact-standalone.js";

const WRITES = "input:not([type=checkbox]), select, textarea, dialog";

// `keys` maps a key to what it does; Escape is heard in fields too.
export function useKeys(keys) {
  const latest = useRef(keys);
  latest.current = keys;
  useEffect(() => {
    const pressed = (event) => {
      const act = latest.current[event.key];
      const writes = event.target.closest?.(WRITES) && event.key !== "Escape";
      if (!act || writes || event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      act(event);
    };
    addEventListener("keydown", pressed);
    return () => removeEventListener("keydown", pressed);
  }, []);
}
