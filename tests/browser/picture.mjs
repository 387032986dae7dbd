// Paints the pictures of the page: the README's, and the ones to look at after a change (with PICTURES_ALL=1).

import { join } from "node:path";
import { open, withBrowser } from "./stage.mjs";

const folder = process.env.PICTURES;

await withBrowser(async (context) => {
  const paint = async (name, width, height, colorScheme, span, whole) => {
    const page = await open(context, { viewport: { width, height }, colorScheme });
    if (span) await page.locator(`#spans input[value=${span}]`).check({ force: true });
    await page.waitForTimeout(1_500);
    await page.screenshot({ path: join(folder, `${name}.png`), fullPage: whole ?? false });
    await page.close();
  };
  await paint("page", 1440, 900, "light", "day");
  if (!process.env.PICTURES_ALL) return;
  for (const colorScheme of ["light", "dark"]) {
    await paint(`wall-${colorScheme}`, 1920, 1080, colorScheme, "week");
    await paint(`phone-${colorScheme}`, 360, 780, colorScheme, "day", true);
  }
  await paint("year", 1280, 800, "light", "year");
  await paint("hour", 1280, 800, "dark", "hour");
});
