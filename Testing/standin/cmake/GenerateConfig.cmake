foreach(field HOMEPAGE CONTRIBUTORS DESCRIPTION ICONURL SCREENSHOTURLS DEPENDS)
  if("${EXTENSION_${field}}" STREQUAL "")
    message(FATAL_ERROR "EXTENSION_${field} is not set")
  endif()
endforeach()
foreach(field LICENSE_FILE README_FILE)
  if(NOT EXISTS "${EXTENSION_${field}}")
    message(FATAL_ERROR "EXTENSION_${field}: there is no ${EXTENSION_${field}}")
  endif()
endforeach()
string(JOIN "\n" description
  "homepage ${EXTENSION_HOMEPAGE}"
  "iconurl ${EXTENSION_ICONURL}"
  "screenshoturls ${EXTENSION_SCREENSHOTURLS}"
  "description ${EXTENSION_DESCRIPTION}"
  "depends ${EXTENSION_DEPENDS}"
  )
file(WRITE "${CMAKE_BINARY_DIR}/${PROJECT_NAME}.s4ext" "${description}\n")
