// Escaping and tables.
#include "runtime/report/html.h"

#include <fmt/format.h>

#include <cstdint>

namespace stoker {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Bytes of the well-formed UTF-8 sequence that `text` begins with; 0: none.
size_t SequenceLength(std::string_view text) {
  const auto byte = [&text](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  const bool is_overlong = (lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xF0 && byte(1) < 0x90);
  const bool is_beyond = (lead == 0xED && byte(1) > 0x9F) || (lead == 0xF4 && byte(1) > 0x8F);
  return is_overlong || is_beyond ? 0 : length;
}

}  // namespace

std::string EscapeHtml(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const size_t length = SequenceLength(text);
    const char c = text[0];
    const bool is_control = (c >= 0 && c < 0x20 && c != '\n' && c != '\t') || c == 0x7F;
    if (length == 0 || is_control) {
      out += kReplacement;
    } else if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else if (c == '\'') {
      out += "&#39;";
    } else {
      out += text.substr(0, length);
    }
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

void HtmlTable::Add(const std::vector<std::string>& cells) {
  rows_ += "<tr>";
  for (size_t i = 0; i < cells.size(); ++i) {
    rows_ += i == 0 ? "<th scope=\"row\">" + EscapeHtml(cells[i]) + "</th>"
                    : "<td>" + EscapeHtml(cells[i]) + "</td>";
  }
  rows_ += "</tr>\n";
  ++row_count_;
}

std::string HtmlTable::Render() const {
  std::string heads;
  for (const std::string& column : columns_) {
    heads += "<th scope=\"col\">" + EscapeHtml(column) + "</th>";
  }
  return fmt::format(
      "<div class=\"scroll\" role=\"region\" aria-label=\"{0}\" tabindex=\"0\"><table id=\"{1}\">"
      "<caption>{0}</caption><thead><tr>{2}</tr></thead><tbody>\n{3}</tbody></table></div>\n",
      EscapeHtml(caption_), id_, heads, rows_);
}

std::string HtmlTable::RenderFolded() const {
  return fmt::format("<details><summary>As a table</summary>{}</details>\n", Render());
}

}  // namespace stoker
