// Text that is safe inside a page, and the tables that stand behind its pictures.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace stoker {

// For text and for quoted attributes. Control characters and bytes that are no UTF-8 become U+FFFD.
std::string EscapeHtml(std::string_view text);

// A table behind a picture. The first cell of a row is its header; each row is one point of the
// picture, in order, which is how page.js finds what to say about a point.
class HtmlTable {
 public:
  // `columns` and cells are plain text, escaped here.
  HtmlTable(std::string id, std::string caption, std::vector<std::string> columns)
      : id_(std::move(id)), caption_(std::move(caption)), columns_(std::move(columns)) {}
  void Add(const std::vector<std::string>& cells);
  const std::string& id() const { return id_; }
  int row_count() const { return row_count_; }
  std::string Render() const;
  // The same inside <details>, closed.
  std::string RenderFolded() const;

 private:
  std::string id_, caption_;
  std::vector<std::string> columns_;
  std::string rows_;
  int row_count_ = 0;
};

}  // namespace stoker
