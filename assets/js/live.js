// What changes while a page is looked at: each topic becomes an event of the body, such as live:usage, for parts with
// hx-trigger="live:usage from:body". Pages that nobody sees do not listen: a browser has few connections to a server.
(() => {
  const TOPICS = ["usage", "notice", "conversations"];
  let source = null;
  let heard = false; // whether it has listened before: then something may have passed meanwhile
  let over = false;

  const say = (topic) => document.body.dispatchEvent(new CustomEvent(`live:${topic}`));

  function listen() {
    if (source || over || document.hidden || !document.querySelector("[data-live]")) return;
    source = new EventSource("/events");
    source.addEventListener("open", () => {
      if (heard) TOPICS.forEach(say);
      heard = true;
    });
    TOPICS.forEach((topic) => source.addEventListener(topic, () => say(topic)));
    source.addEventListener("over", () => {
      over = true;
      leave();
    });
  }

  function leave() {
    source?.close();
    source = null;
  }

  document.addEventListener("visibilitychange", () => (document.hidden ? leave() : listen()));
  addEventListener("pagehide", leave);
  addEventListener("pageshow", listen);
  listen();
})();
