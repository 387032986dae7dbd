// Sets the remembered colours before the first paint. Not a module, so that it runs at once.
"use strict";
try {
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // A browser that keeps nothing shows what its own setting says.
}
