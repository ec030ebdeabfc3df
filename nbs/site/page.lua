-- Reading time and the notebook itself, beneath the title of each chapter; exported sources and solutions folded.
local words, name = 0, nil

local counter = { Str = function(el) if el.text:match("%w") then words = words + 1 end end }

local function facts()
  local minutes = math.max(1, math.floor(words / 220 + 0.5))
  local link = pandoc.Link("the notebook", "notebooks/" .. name .. ".ipynb", "", { download = name .. ".ipynb" })
  return pandoc.Div(pandoc.Para({ pandoc.Str(minutes .. (minutes == 1 and " minute" or " minutes") .. " to read · download "), link }), { class = "page-facts" })
end

-- The signature stands above its source already. And a link is no link inside of code: its text stays.
local function fold(block)
  block.text = block.text:gsub("%[(`[^`%]]+`)%]%(https?://[^)%s]*%)", "%1")
  local _, lines = block.text:gsub("\n", "")
  if block.attributes["code-summary"] == "Exported source" then
    block.attributes["code-fold"] = lines < 25 and "show" or "true"  -- what is short is there to be read
  end
  return block
end

-- checks/reading.py begins a solution with a paragraph that holds its title. (A div of class solution is a proof to Quarto.)
local function solution(div)
  if not div.classes:includes("book-solution") then return nil end
  local title = table.remove(div.content, 1)
  div.classes = { "book-solution-body" }
  return { pandoc.RawBlock("html", '<details class="book-solution"><summary>'), pandoc.Plain(title.content),
           pandoc.RawBlock("html", "</summary>"), div, pandoc.RawBlock("html", "</details>") }
end

function Pandoc(doc)
  doc:walk(counter)
  doc = doc:walk({ CodeBlock = fold, Div = solution })
  name = quarto.doc.input_file:match("([^/\\]+)%.ipynb$")
  if name and name ~= "index" then table.insert(doc.blocks, 1, facts()) end
  return doc
end
