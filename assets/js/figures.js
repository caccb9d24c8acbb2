// Draws the charts of a page from their figures. Colours are the design's: chart.js draws anew when they change.
(() => {
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const muted = "var(--muted-foreground)";

  function draw(canvas) {
    const { labels, series, format } = JSON.parse(canvas.dataset.figures);
    const rows = labels.map((label, day) => ({ label, ...Object.fromEntries(series.map((one, at) => [at, one.values[day]])) }));
    basecoat.chart(canvas, {
      type: "bar",
      data: rows,
      series: Object.fromEntries(series.map((one, at) => [at, { label: one.label }])),
      legend: series.length > 1,
      options: {
        animation: still ? false : { duration: 250 },
        locale: document.documentElement.lang,
        scales: {
          x: { stacked: true, ticks: { color: muted, padding: 6, maxRotation: 0, autoSkipPadding: 16 } },
          y: { stacked: true, beginAtZero: true, ticks: { color: muted, padding: 6, maxTicksLimit: 6, format } },
        },
        plugins: { tooltip: { filter: (item) => item.parsed.y > 0 } },
      },
    });
  }

  document.querySelectorAll("canvas[data-figures]").forEach(draw);
})();
